package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

// TestLostCommitsAreNotNumberedAgain lets Postgres forget its last numbering, as when
// an asynchronous standby is promoted: in the first partition, or in the second one
// alone. The log has the forgotten records. Nobody may give their offsets to others, and
// nobody may apply them.
func TestLostCommitsAreNotNumberedAgain(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Repartition(partitions, 1)
			p := partitions - 1
			key := world.KeyOf(p, partitions)
			s := w.Streamer()
			w.CommitKeyed(1, 5, key)
			w.Drain(s)
			w.CommitKeyed(6, 10, key) // these are lost
			w.Drain(s)
			s.Close()
			w.Exec(`DELETE FROM unilog.batches WHERE partition = $1 AND last_offset > 5`, p)
			w.Exec(`UPDATE unilog.partitions SET next_offset = 6, published_offset = 5 WHERE partition = $1`, p)
			w.Exec(`DELETE FROM amounts WHERE id > (SELECT max(id) - 5 FROM amounts)`)
			w.CommitKeyed(6, 25, key) // writers go on

			applied := make(chan int64, 100)
			late := w.Consumer("late", func(cfg *consumer.Config) {
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					for _, e := range entries {
						if e.Partition == p && e.Offset > 5 {
							applied <- e.Offset
						}
					}
					return add(ctx, tx, entries)
				}
			})
			ctx, stop := context.WithCancel(w.Ctx)
			running := make(chan error, 1)
			go func() { running <- late.Run(ctx) }()
			var ahead *unilog.LogAheadError
			for range 3 { // a supervisor starts it again
				if err := w.Streamer().Run(w.Ctx); !errors.As(err, &ahead) || ahead.Partition != p || ahead.Log != 10 || ahead.Database != 5 {
					t.Fatalf("the streamer says %v, want that the log of partition %d is at 10 and the database at 5", err, p)
				}
			}
			w.AwaitThat("the consumer to say what is wrong", func() bool { return errors.As(late.Ready(), &ahead) })
			stop()
			w.Must(world.Receive(w, "the consumer to end", running))
			w.WantCount("applied that the database does not know", len(applied), 0)
			if next := world.Query[int](w, `SELECT next_offset FROM unilog.partitions WHERE partition = $1`, p); next != 6 {
				t.Errorf("the next offset is %d: offsets of the lost time were given again", next)
			}
			// The way out that the message gives.
			stream := w.Stream
			if p > 0 {
				stream += fmt.Sprint(":", p)
			}
			w.Command("DEL", stream)
			w.Drain(w.Streamer())
			w.Consume(w.Consumer("late"))
		})
	}
}
