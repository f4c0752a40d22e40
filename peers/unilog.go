package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// unilogPeer is `unilog streamer`.
type unilogPeer struct{ binary string }

var _ peer = unilogPeer{}

func (unilogPeer) name() string { return "unilog" }

func (unilogPeer) setting() string {
	return "`unilog streamer` as it is delivered. Only `--keep-records` is raised, so that all records are in the stream " +
		"when it is read at the end; none of the others trims its stream unless told to."
}

func (unilogPeer) postgresArgs() []string { return nil }

func (p unilogPeer) prepare(ctx context.Context, w *world) error {
	cmd := exec.CommandContext(ctx, p.binary, "migrate")
	cmd.Dir, cmd.Env = w.dir, unilogEnvironment(w)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("unilog migrate: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

func (unilogPeer) stage(ctx context.Context, tx pgx.Tx, ids []int) error {
	records := make([]unilog.Record, len(ids))
	for i, id := range ids {
		records[i] = unilog.Record{Action: "create", Object: "ride", Key: strconv.Itoa(id), Data: []byte(payload(id))}
	}
	return unilog.Stage(ctx, tx, records...)
}

func (p unilogPeer) command(w *world) (*exec.Cmd, error) {
	cmd := exec.Command(p.binary, "streamer", "--keep-records=10000000")
	cmd.Env = unilogEnvironment(w)
	return cmd, nil
}

func (unilogPeer) stream() string { return "unilog" }

// unilogEnvironment has nothing that the user's has set for a unilog of his own.
func unilogEnvironment(w *world) []string {
	var env []string
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); name == "PATH" || name == "HOME" || name == "TMPDIR" {
			env = append(env, pair)
		}
	}
	return append(env, "DATABASE_URL="+w.databaseURL, "REDIS_URL="+w.redisURL, "STREAM_NAME=unilog", "LOG_FORMAT=text")
}
