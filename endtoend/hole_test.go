package endtoend_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/switchlog"
)

// sqlPlaceholders is what docs/operations.md has: rows in the place of a lost one.
const sqlPlaceholders = `
	INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
	SELECT $1::integer, $2::bigint, $3::bigint, 0, array_fill(now(), n), array_fill('lost'::text, n), array_fill('lost'::text, n), array_fill(''::text, n),
		array_fill('{}'::text, n), array_fill('{}'::text, n)
	FROM (SELECT ARRAY[($3::bigint - $2::bigint + 1)::integer]) AS records (n)`

// TestPieceOfTheArchiveIsGone deletes, or damages, a row of the archive in the middle.
func TestPieceOfTheArchiveIsGone(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]string{
		"deleted":           `DELETE FROM unilog.batches WHERE last_offset = 20`,
		"arrays do not fit": `UPDATE unilog.batches SET key = key[2:] WHERE last_offset = 20`,
		"a value is null":   `UPDATE unilog.batches SET key[5] = NULL WHERE last_offset = 20`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			counts := func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) }
			s := w.Streamer()
			for n := range 3 {
				w.CommitMany(10)
				w.Drain(s)
				if n == 0 {
					w.WantCount("applied", w.Consume(w.Consumer("behind", counts)), 10)
				}
			}
			w.WantCount("applied", w.Consume(w.Consumer("ahead", counts)), 30)
			w.Exec(harm)

			// The log has what the archive lacks: nobody notices.
			w.CommitMany(10)
			w.WantCount("published", w.Drain(s), 10)
			w.WantCount("applied", w.Consume(w.Consumer("ahead", counts)), 10)
			if _, err := switchlog.Copy(w.Ctx, w.DB, "", logtest.NewMemory(), switchlog.Keep{Records: 100}); err == nil || !strings.Contains(err.Error(), "lost offsets 11 to 20, or they are damaged there, and a consumer is only at 10") {
				t.Errorf("the switch says %v", err)
			}

			// The log is lost: it begins after the hole, and who is past that goes on.
			s.Close()
			w.Wipe()
			s = w.Streamer()
			w.CommitMany(10)
			w.Drain(s)
			if got := w.Offsets(); len(got) != 30 || got[0] != 21 {
				t.Errorf("the log has %v, want 21 to 50", got)
			}
			w.WantCount("applied by who is past it", w.Consume(w.Consumer("ahead", counts)), 10)

			// Who needs it halts, and says what is missing.
			for _, end := range []func(context.Context) error{w.Consumer("behind", counts).Run, w.Consumer("new", counts).Run, w.Deliverer(new(world.Arrivals).Deliver).Run} {
				var gap *unilog.GapError
				err := w.EndOf(w.Ctx, end)
				if !errors.As(err, &gap) || gap.From != 11 || gap.To != 20 || !gap.Damaged || !strings.Contains(err.Error(), "--partition 0 --offset 21`") {
					t.Errorf("it ends with %v", err)
				}
			}
			whatItIsToldToDoWorks(w, harm, counts)
		})
	}
}

// whatItIsToldToDoWorks goes on without the piece, with placeholders, and in another log.
func whatItIsToldToDoWorks(w *world.World, harm string, counts func(*consumer.Config)) {
	w.Helper()
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 20 WHERE name = 'behind'`)
	w.WantCount("applied after the hole", w.Consume(w.Consumer("behind", counts)), 30)
	w.Exec(`DELETE FROM unilog.batches WHERE last_offset = 20`)
	w.Exec(sqlPlaceholders, 0, 11, 20)
	w.WantCount("applied with placeholders", w.Consume(w.Consumer("new", counts)), 40)

	// A move of the log begins after it, too.
	w.Exec(harm)
	w.Exec(`DELETE FROM unilog.checkpoints WHERE name = 'hook'`)
	next := logtest.NewMemory()
	n, err := switchlog.Copy(w.Ctx, w.DB, "", next, switchlog.Keep{Records: 100})
	if all := next.Entries(0); n != 40 || err != nil || len(all) != 30 || all[0].Offset != 21 {
		w.Errorf("copied %d: %v", n, err)
	}
	if n, err := switchlog.Compare(w.Ctx, w.DB, "", next); n != 30 || err != nil {
		w.Errorf("compared %d: %v", n, err)
	}
	w.Exec(`TRUNCATE unilog.batches, unilog.checkpoints, amounts`) // none of it adds up
}

// TestHoleThatWasNeverPublished holds up the partition that it is in, until the piece is
// there again.
func TestHoleThatWasNeverPublished(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 2)
	p.Write(0, "1")
	p.Write(1, "1", "1")
	p.Exec(`UPDATE unilog.partitions SET next_offset = next_offset + 2 WHERE partition = 1`) // of which the archive has none
	p.Runs()
	p.AwaitThat("the streamer to say what is lost", func() bool {
		return world.Query[bool](p.World, `SELECT coalesce(trouble, '') LIKE '%archive of partition 1 has lost offsets 3 to 4%' FROM unilog.partitions WHERE partition = 1`)
	})
	p.Exec(`INSERT INTO unilog.batches SELECT partition, 2, 2, 30, now(), staged_at, action, object, key, data, headers FROM unilog.batches WHERE partition = 0`)
	p.Exec(`UPDATE unilog.partitions SET next_offset = 3 WHERE partition = 0`)
	p.Exec(`INSERT INTO amounts (amount) VALUES (1)`)
	p.AwaitThat("the other partition to go on", func() bool { return head(p, 0) == 2 })
	p.Exec(sqlPlaceholders, 1, 3, 4)
	p.AwaitThat("the partition to go on", func() bool { return head(p, 1) == 4 })
}

func head(p *world.Partitioned, partition int) int64 {
	head, err := p.Log.Head(p.Ctx, partition)
	p.Must(err)
	return head.Offset
}

// TestGapHoldsOnePartition sees that the others go on, in a consumer and in a deliverer.
func TestGapHoldsOnePartition(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 2)
	p.WriteAll()
	p.Must(p.Log.Trim(p.Ctx, 1, 1))
	p.LoseArchive(1, 1)
	c := p.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") })
	p.Consumes(c)
	var outside world.Arrivals
	d := p.Deliverer(outside.Deliver)
	ctx, stop := context.WithCancel(p.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	for name, ready := range map[string]func() error{"consumer": c.Ready, "deliverer": d.Ready} {
		p.AwaitThat("the "+name+" to say what is missing", func() bool {
			err := ready()
			return err != nil && strings.Contains(err.Error(), "cannot have offsets 1 to 1 of partition 1")
		})
	}
	p.Write(0, "2")
	p.AwaitThat("the other partition to go on", func() bool { return p.Total("sum") == "3" && outside.Count() == 2 })
	stop()
	p.Must(world.Receive(p.World, "the deliverer to end", ended))
	p.Exec(`TRUNCATE unilog.checkpoints`)
	p.Exec(`DELETE FROM parts`)
	p.Exec(`DELETE FROM amounts`)
	p.Exec(`DELETE FROM unilog.batches`)
}
