package main

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// TestSteeringConsumers moves, pauses and resumes a consumer that does not run, and lets it
// skip a record; each refusal says what there is.
func TestSteeringConsumers(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `
		INSERT INTO unilog.partitions (partition) VALUES (1);
		INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, numbered_at, staged_at, action, object, key, data, headers)
		SELECT p, n, n, 1, now() - interval '1 hour' * (9 - n), ARRAY[now()], '{create}', '{order}', '{""}', '{1}', '{"{}"}'
		FROM generate_series(0, 1) AS p, generate_series(4, 8) AS n;
		UPDATE unilog.batches SET object = '{unilog}' WHERE partition = 1 AND last_offset = 8;
		UPDATE unilog.partitions SET next_offset = 9, published_offset = 8;
		INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('billing', 0, 8), ('billing', 1, 7)`)
	seek := func(args ...string) []string { return append([]string{"consumers", "seek", "billing"}, args...) }

	fails(t, env, seek("--offset=5"), 1, "billing reads several partitions, and each has offsets of its own: say which one with --partition")
	fails(t, env, seek("--offset=5", "--head"), 2, "--offset and --head can't be used together")
	fails(t, env, seek("--time=yesterday"), 2, "\"yesterday\" is no time")
	fails(t, env, seek("--beginning", "--yes"), 1, "billing cannot begin at offset 1 of partition 0: the archive begins at offset 4, numbered at 20")
	fails(t, env, seek("--time=9h", "--yes"), 1, "of partition 0: the archive begins at offset 4")
	fails(t, env, seek("--offset=10", "--partition=1", "--yes"), 1, "the next offset of partition 1 is 9, and 10 is beyond it")
	fails(t, env, seek("--head", "--partition=7"), 1, "billing has no checkpoint in that partition")
	fails(t, env, []string{"consumers", "seek", "biling", "--head"}, 1, "no consumer biling has registered, but billing: see `unilog consumers list`")
	fails(t, env, seek("--time=150m"), 1, "nothing is changed: say --yes to do it")
	says(t, env, []string{"consumers", "list"}, "billing 15 1 ")
	says(t, env, seek("--time=150m", "--yes", "--reason=a bug"),
		"billing: at offset 7, and not at 9: 2 records are given to its handler again", "billing: at offset 7 of partition 1, and not at 8: 1 records are given")
	says(t, env, []string{"consumers", "list"}, "billing 12 4 ", "billing: last intervention", "seek in partition 1 from offset 8 to 7, by", ": a bug")
	says(t, env, seek("--offset=8", "--partition=0", "--yes"), "billing: at offset 8, and not at 7: 1 records are passed over, and never applied")
	says(t, env, seek("--offset=8", "--partition=1", "--yes"), "billing: at offset 8 of partition 1, and not at 7")

	says(t, env, []string{"consumers", "pause", "billing"}, "billing is paused: `unilog consumers resume billing` lets it go on")
	fails(t, env, []string{"consumers", "pause", "billing"}, 1, "billing is paused already, since 20")
	says(t, env, []string{"consumers", "list"}, "billing is paused, for ")
	says(t, env, []string{"status"}, "- billing is paused for ", "let it go on with `unilog consumers resume billing`")
	says(t, env, []string{"consumers", "resume", "billing"}, "billing goes on")
	fails(t, env, []string{"consumers", "resume", "billing"}, 1, "billing is not paused")

	skip := func(args ...string) []string { return append([]string{"consumers", "skip", "billing"}, args...) }
	fails(t, env, skip("0", "8"), 2, "--reason")
	fails(t, env, skip("0", "7", "--reason=bad"), 1, "the next record of billing in partition 0 is 8, and only that can be skipped, not 7")
	fails(t, env, skip("1", "8", "--reason=bad"), 1, "an entry of the log's own")
	says(t, env, skip("0", "8", "--reason=bad"), "billing: offset 8 is skipped, and is in the dead letters")
	says(t, env, []string{"deadletters", "list"}, "billing 0 8 ", "create order 1 skipped: bad")
	says(t, env, []string{"deadletters", "requeue", "billing", "8"}, "billing: offset 8 is left to its consumer")
	says(t, env, seek("--offset=8", "--partition=0", "--yes"), "1 of them are parked now, and come again likewise")
	says(t, env, []string{"deadletters", "list"})
	fails(t, env, []string{"deadletters", "requeue", "billing", "8"}, 1, "billing has parked no record at offset 8 of partition 0")
}

// TestSteeringConsumersElsewhere has the archive in another database than the consumer's, and
// then none, but a log.
func TestSteeringConsumersElsewhere(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, order)
	exec1(t, pool, order)
	start(t, env, "streamer")("leading")
	await.True(t, "the records to be published", func() bool {
		return strings.Contains(execute(t, env, "status").out, "published  2\n")
	})
	state, elsewhere := empty(t)
	elsewhere[2] = env[2] // the stream
	says(t, elsewhere, []string{"migrate", "--side=consumers"})
	exec1(t, state, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('billing', 0)`)
	seek := func(args ...string) []string {
		return append([]string{"consumers", "seek", "billing", "--yes"}, args...)
	}
	fails(t, elsewhere, seek("--head"), 1, "this database has no archive: give the writers' with --archive-url")
	archive := "--archive-url=" + pool.Config().ConnString()
	fails(t, elsewhere, seek("--offset=4", archive), 1, "the next offset of partition 0 is 3, and 4 is beyond it")
	says(t, elsewhere, seek("--head", archive), "billing: at offset 3, and not at 1: 2 records are passed over")
	says(t, elsewhere, seek("--offset=1"), "billing: at offset 1, and not at 3")
	skip := []string{"consumers", "skip", "billing", "0", "1", "--reason=bad"}
	exec1(t, state, `UPDATE unilog.checkpoints SET log_id = gen_random_uuid()::text`)
	for _, args := range [][]string{seek("--beginning", archive), append(skip, archive), skip} {
		fails(t, elsewhere, args, 1, "consumer billing meets the logs of two databases in partition 0")
	}
	exec1(t, state, `UPDATE unilog.checkpoints SET log_id = NULL`)
	fails(t, elsewhere[:1], skip, 1, "is not in the archive: set REDIS_URL or LOG_URL")
	says(t, elsewhere, skip, "billing: offset 1 is skipped")
	skip[4] = "2"
	says(t, elsewhere[:1], append(skip, archive), "billing: offset 2 is skipped")
	says(t, elsewhere, []string{"deadletters", "list"}, "billing 0 1 ", "billing 0 2 ", "skipped: bad")
}
