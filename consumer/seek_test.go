package consumer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// TestRejectedInARowAfterASeek takes a consumer back to before what it has applied.
func TestRejectedInARowAfterASeek(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write(strings.Repeat("9.", 22) + "1")
	broken := false
	ctx, stop := context.WithCancel(s.Ctx)
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Observer.Parked = func(e unilog.Entry, _ error) {
			if e.Offset > 2*20 {
				stop()
			}
		}
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if broken {
				return errors.New("poison")
			}
			return add(ctx, tx, entries)
		}
	})
	s.Consume(c)
	s.WantTotal("sum", "199")
	s.Exec(`DELETE FROM applied; DELETE FROM sums`)
	seek(s.World, unilog.Start{})
	broken = true
	err := s.EndOf(ctx, c.Run)
	if rejected := new(unilog.RejectedError); !errors.As(err, &rejected) || rejected.Offset != 2*20+1 {
		t.Errorf("Run returns %v", err)
	}
	s.WantCount("parked", world.Query[int](s.World, `SELECT count(*) FROM unilog.dead_letters`), 20)
	s.Exec(`DELETE FROM unilog.dead_letters`)
	s.Exec(`UPDATE unilog.checkpoints SET "offset" = 0`)
}

// TestRequeuedThatTakesTooLong holds up nothing, whether its handler returns late or in time.
func TestRequeuedThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]time.Duration{"in time": 0, "late": 300 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
			w.Commit("13", "2")
			w.StreamAll()
			w.Consume(w.Consumer("sum", func(cfg *consumer.Config) {
				cfg.Handler, cfg.ParkRejected = world.Rejecting(cfg.Handler, func() {}, "13"), true
			}))
			w.Must(in.Requeue(w.Ctx, w.DB, "sum", 0, 1))
			w.Commit("4")
			w.StreamAll()
			w.Consumes(w.Consumer("sum", func(cfg *consumer.Config) {
				add := cfg.Handler
				*cfg = consumer.WithSilence(*cfg, 100*time.Millisecond)
				cfg.HandlerTimeout = 200 * time.Millisecond
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					if entries[0].Offset > 1 {
						return add(ctx, tx, entries)
					}
					<-ctx.Done()
					time.Sleep(late)
					return ctx.Err()
				}
			}))
			w.AwaitTotal("sum", "6")
			w.AwaitTrue("it to stay", `SELECT requeued_at IS NULL FROM unilog.dead_letters`)
		})
	}
}

// TestRequeuedIsGivenOnlyIfAskedFor requeues a record of a kind that the consumer no longer
// asks for.
func TestRequeuedIsGivenOnlyIfAskedFor(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write(".1")
	all := s.selects(await.Patience, func(cfg *consumer.Config) {
		cfg.Only, cfg.ParkRejected = nil, true
		cfg.Handler = func(context.Context, pgx.Tx, []unilog.Entry) error { return errors.New("poison") }
	})
	s.Consume(all)
	for offset := range int64(2) {
		s.Must(in.Requeue(s.Ctx, s.DB, "sum", 0, offset+1))
	}
	s.WantCount("applied", s.Consume(s.selects(await.Patience)), 1)
	s.WantTotal("sum", "1")
	s.WantCount("dead letters that are left", world.Query[int](s.World, `
		SELECT count(*) FROM unilog.dead_letters WHERE "offset" = 1 AND requeued_at IS NULL AND error LIKE 'Config.Only%'`), 1)
}

// TestPauseWhileAPartitionComes registers a consumer in another partition in a transaction
// that Pause does not see, and that does not see Pause.
func TestPauseWhileAPartitionComes(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 2)
	p.Exec(`INSERT INTO unilog.checkpoints (name, partition) VALUES ('sum', 0)`)
	tx, err := p.DB.Begin(p.Ctx)
	p.Must(err)
	_, err = tx.Exec(p.Ctx, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('sum', 1)`)
	p.Must(err)
	p.Must(in.Pause(p.Ctx, p.DB, "sum", ""))
	p.Must(tx.Commit(p.Ctx))
	p.WriteAll()
	use := func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") }
	if n, err := p.Consumer("sum", use).RunOnce(p.Ctx); n != 0 || !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("paused, it applies %d, and says %v", n, err)
	}
	outside := new(world.Arrivals)
	p.Exec(`UPDATE unilog.checkpoints SET outside = true, log_id = (SELECT log_id FROM unilog.log)`)
	d := p.Deliverer(outside.Deliver, func(cfg *deliverer.Config) { cfg.Name = "sum" })
	if _, err := d.RunOnce(p.Ctx); outside.Count() != 0 || !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("paused, it delivers %d, and says %v", outside.Count(), err)
	}
	p.Exec(`UPDATE unilog.checkpoints SET outside = false`)
	p.Must(in.Resume(p.Ctx, p.DB, "sum", ""))
	p.WantCount("applied then", p.Consume(p.Consumer("sum", use)), 2)
}
