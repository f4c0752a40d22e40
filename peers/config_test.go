package main

import (
	"strings"
	"testing"
)

// What compares nothing, or cannot, is no success.
func TestConfigRefused(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--check --unilog=u --only=nosuch":        `--only: no peer's name begins with "nosuch"`,
		"--check --unilog=u --only=unilog,nosuch": `--only: no peer's name begins with "nosuch"`,
		"--check":                         "--unilog is missing",
		"--check --unilog=u --records=99": "--records must be at least 100",
		"--unilog=u --rounds=0":           "--rounds must be at least 1",
		"--unilog=u unilog":               "what is unilog?",
	} {
		if err := run(t.Context(), strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	for names, want := range map[string]int{"": 5, "unilog": 1, "Plain,watermill": 4} {
		c := config{unilog: "u", records: 5000, rounds: 1, only: names}
		if err := c.flaw(); err != nil || len(c.peers()) != want {
			t.Errorf("--only=%s: %d peers, %v, want %d", names, len(c.peers()), err, want)
		}
	}
}
