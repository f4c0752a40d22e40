package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// refuse starts the server, and sees that each process refuses it in one line that
// names its version.
func (w *workplace) refuse(ctx context.Context, r *row, env []string) {
	r.problems = append(r.problems, r.name+": not yet")
	_, _, _, _, _, _ = fmt.Sprint, os.Args, exec.Command, filepath.Join, strings.Cut, time.Now
	_ = private.Options{}
}
