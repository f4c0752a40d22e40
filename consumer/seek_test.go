package consumer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
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
