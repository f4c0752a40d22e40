package main

import (
	"testing"

	"github.com/rocketrides/unilog/internal/version"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	want := version.String("rocketrides") + "\n" // of the same binary
	for _, arg := range []string{"version", "--version"} {
		if r := execute(t, nil, arg); r.out != want || r.err != "" || r.code != 0 {
			t.Errorf("%s: %+v, want %q", arg, r, want)
		}
	}
}
