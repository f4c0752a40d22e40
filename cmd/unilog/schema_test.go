package main

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// Two logs in one database have nothing to do with each other.
func TestTwoSchemas(t *testing.T) {
	t.Parallel()
	pool, first := database(t)
	second := append(first[:2:2], "STREAM_NAME="+testenv.StreamName(t), "UNILOG_SCHEMA=order")
	fails(t, second, []string{"status"}, 1, `the tables are not there (unilog_log, in schema order), but in unilog: run`)
	says(t, second, []string{"migrate", "--partitions=2"}, "up to date", "the log has 2 partitions now")
	start(t, first, "streamer")("leading")
	start(t, second, "streamer")("leading")
	exec1(t, pool, order)
	exec1(t, pool, unilog.Schema("order").SQL(order+"; "+order))
	exec1(t, pool, `INSERT INTO "order".checkpoints (name, partition, updated_at) VALUES ('billing', 0, '2000-01-01'), ('billing', 1, '2000-01-01')`)
	for _, c := range []struct {
		env  []string
		want string
	}{{first, "published  1\n"}, {second, "published  2\n"}} {
		await.That(t, c.want, func() string {
			out := execute(t, c.env, "status").out
			if strings.Contains(out, c.want) {
				return ""
			}
			return out
		})
	}
	says(t, second, []string{"consumers", "list"}, "billing 0 2 ")
	says(t, first, []string{"consumers", "list"}, "no consumer has registered yet")
	says(t, second, append([]string{"verify"}, "--truth=SELECT 5.00", "--totals=SELECT 'billing', 0.0", "--amount=(data ->> 'amount')::numeric"),
		"billing 5.00 0.0 5.00 0 0 2 agrees")
	if out := execute(t, second, "doctor").out; !strings.Contains(out, "the tables are up to date") || !strings.Contains(out, "staged_records_wake is enabled") {
		t.Errorf("doctor:\n%s", out)
	}
	// The move of one of them leaves the other where it is.
	says(t, second, []string{"log", "switch", "--to=postgres:"}, "streamers and consumers go on in the new place")
	fails(t, first, []string{"log", "switch", "--undo"}, 1, "no move to undo")
	says(t, first, []string{"status", "--schema=order"}, "published 2")
}

func TestBadSchema(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	const want = `the schema's name is "Orders": it must be of a to z`
	fails(t, env, []string{"status", "--schema=Orders"}, 2, want)
	fails(t, append(env, "UNILOG_SCHEMA=Orders"), []string{"migrate", "--sql"}, 2, want)
}
