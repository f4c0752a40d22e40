package main

import (
	"testing"

	"github.com/rocketrides/unilog/internal/documents"
)

func TestDocsNameCommandsThatThereAre(t *testing.T) {
	t.Parallel()
	n := documents.CheckCommands(t, "rocketrides", func(words ...string) string {
		out, err := command(t.Context(), t, nil, append(words, "--help")...).Output()
		if err != nil {
			t.Errorf("rocketrides %q --help: %v", words, err)
		}
		return string(out)
	})
	if n < 30 {
		t.Errorf("the documents name only %d commands", n)
	}
}
