package streamer_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// beforeQuery calls a function before the first query that has a text in it.
type beforeQuery struct {
	text string
	once sync.Once
	do   func()
}

func (b *beforeQuery) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.Contains(q.SQL, b.text) {
		b.once.Do(b.do)
	}
	return ctx
}

func (*beforeQuery) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestHoleThatIsMendedWhileItIsLookedAt puts a row of the archive back when a streamer has
// missed it, and asks how much is missing.
func TestHoleThatIsMendedWhileItIsLookedAt(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	for range 3 {
		w.CommitMany(10)
		w.Drain(s)
	}
	s.Close()
	w.Wipe()
	w.Exec(`CREATE TABLE kept AS SELECT * FROM unilog.batches WHERE last_offset = 20`)
	w.Exec(`DELETE FROM unilog.batches WHERE last_offset = 20`)
	back := &beforeQuery{text: "EXISTS (SELECT FROM unilog.batches", do: func() { w.Exec(`INSERT INTO unilog.batches SELECT * FROM kept`) }}
	config := w.DB.Config()
	config.ConnConfig.Tracer = back
	watched, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, watched)
	s = w.Streamer(func(cfg *streamer.Config) { cfg.DB = watched })
	w.CommitMany(1)
	w.Await("all to be published again", func() string {
		_, err := w.Patiently(s.RunOnce)
		w.Must(err)
		if n := w.LogLength(); n < 31 {
			return "fewer than 31 entries"
		}
		return ""
	})
	if got := w.Offsets(); got[0] != 1 || len(got) != 31 {
		t.Errorf("the log has %v, want 1 to 31", got)
	}
}
