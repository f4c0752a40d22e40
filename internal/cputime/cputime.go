// Package cputime says for how long processes have computed, by Linux's /proc.
package cputime

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what /proc counts a process's time in: 100 a second on all Linuxes that
// Go runs on.
const tick = 10 * time.Millisecond

// Of returns the time for which a process and its children have computed, also
// those that have ended.
func Of(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// The name before may have anything in it.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		own := path == fmt.Sprintf("/proc/%d/stat", pid)
		if !own && fields[1] != strconv.Itoa(pid) {
			continue
		}
		times := fields[11:13] // user and system
		if own {
			times = fields[11:15] // and those of its children that have ended
		}
		for _, text := range times {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}
