package main

import (
	"testing"

	"github.com/rocketrides/unilog/internal/documents"
)

func TestLookingAfterConsumersAndDeadLetters(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 6, published_offset = 5`)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('billing', 0, 5)`)
	exec1(t, pool, `
		INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, body, content_type, error)
		VALUES ('billing', 0, 4, now(), 'create', 'order', '', '{}', '{}', NULL, NULL, 'no address'),
			('billing', 0, 5, now(), 'create', 'order', '', NULL, '{}', '\x00808a', 'application/x-protobuf', 'no address')`)
	says(t, env, []string{"consumers", "list"}, "billing 5 0 0.0 2 ")
	says(t, env, []string{"status"}, "billing has parked 2 records: see `unilog deadletters list billing`")
	says(t, env, []string{"deadletters", "list"}, "billing 0 4 ", "create order {} no address", "create order application/x-protobuf, 3 bytes no address")
	says(t, env, []string{"deadletters", "discard", "billing", "4"}, "billing: offset 4 is discarded")
	fails(t, env, []string{"deadletters", "discard", "billing", "4"}, 1, "billing has parked no record at offset 4 of partition 0: see `unilog deadletters list`")
	fails(t, env, []string{"deadletters", "discard", "billing", "9", "5", "4", "9"}, 1,
		"nothing is discarded: billing has parked no record at offsets 4 and 9 of partition 0: see `unilog deadletters list`")
	says(t, env, []string{"deadletters", "list", "billing"}, "billing 0 5 ")
	says(t, env, []string{"deadletters", "discard", "billing", "5", "5"}, "billing: offset 5 is discarded")
	says(t, env, []string{"deadletters", "list", "billing"})
	fails(t, env, []string{"deadletters", "list", "shipping"}, 1, "no consumer shipping has registered, but billing: see `unilog consumers list`")
	says(t, env, []string{"consumers", "forget", "billing"}, "billing is forgotten: its checkpoint and its dead letters are gone")
	fails(t, env, []string{"consumers", "forget", "billing"}, 1, "no consumer billing has registered: see `unilog consumers list`")
	exec1(t, pool, `
		INSERT INTO unilog.readers (name, partition, "offset") VALUES ('mails', 0, 3);
		INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('sum', 0, 5);
		INSERT INTO unilog.members (name, member, seen_at) VALUES ('sum', 'a', now() + interval '1 hour')`) // alive, however long the next calls take
	says(t, env, []string{"consumers", "list"}, "mails 3 2 0.0 - ", " elsewhere")
	const doc = "docs/elsewhere.md"
	documents.CheckLog(t, doc, documents.Output(t, doc, "unilog consumers list"), execute(t, env, "consumers", "list").out)
	exec1(t, pool, `DELETE FROM unilog.members`)
	says(t, env, []string{"consumers", "forget", "sum"}, "sum is forgotten")
	says(t, env, []string{"consumers", "forget", "mails"}, "mails is forgotten here: what it has reported is gone")
	fails(t, env, []string{"consumers", "forget", "mails"}, 1, "no consumer mails has registered: see `unilog consumers list`")
	var left int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM unilog.checkpoints) + (SELECT count(*) FROM unilog.dead_letters)`).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d rows are left, %v", left, err)
	}
}
