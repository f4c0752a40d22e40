package main

import (
	"testing"

	"github.com/rocketrides/unilog/internal/documents"
)

func TestDocsNameCommandsThatThereAre(t *testing.T) {
	t.Parallel()
	n := documents.CheckCommands(t, "unilog", func(words ...string) string {
		return execute(t, nil, append(words, "--help")...).out
	})
	if n < 50 {
		t.Errorf("the documents name only %d commands", n)
	}
}

// TestDocsOfConsumers gives the commands that docs/consumers.md shows, one after the other.
func TestDocsOfConsumers(t *testing.T) {
	t.Parallel()
	const doc = "docs/consumers.md"
	pool, env := database(t)
	exec1(t, pool, `
		INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
		SELECT 0, n, n, 1, ARRAY[now()], '{create}', '{order}', '{""}', '{1}', '{"{}"}' FROM generate_series(1, 12) AS n;
		UPDATE unilog.partitions SET next_offset = 13, published_offset = 12;
		INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('totals', 0, 7)`)
	for _, step := range documents.Steps(t, doc, "unilog") {
		if step.Args[1] == "skip" { // as far as it has come since
			exec1(t, pool, `UPDATE unilog.checkpoints SET "offset" = 7, paused_at = NULL`)
		}
		r := execute(t, env, step.Args...)
		documents.CheckLines(t, doc, step.Output, r.out+r.err)
	}
}
