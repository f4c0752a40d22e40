package streamer_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// beforeNumbering calls a function once, before a statement that numbers is sent.
type beforeNumbering struct{ do atomic.Pointer[func()] }

func (b *beforeNumbering) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	for _, q := range data.Batch.QueuedQueries {
		if !strings.Contains(q.SQL, "DELETE FROM unilog.staged_records") {
			continue
		}
		if do := b.do.Swap(nil); do != nil {
			(*do)()
		}
	}
	return ctx
}

func (*beforeNumbering) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (*beforeNumbering) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}
func (*beforeNumbering) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (*beforeNumbering) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// TestRecordsOfALateTransactionKeepTheirOrder has a transaction stage a record, another
// one long afterwards, and commit just before a step numbers the second.
func TestRecordsOfALateTransactionKeepTheirOrder(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	before := new(beforeNumbering)
	config := w.DB.Config()
	config.ConnConfig.Tracer = before
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	t.Cleanup(db.Close)
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithWalk(*cfg, 1)
		cfg.DB = db
	})
	late := w.Begin()
	w.Note(late, "10")
	w.Commit("1", "2", "3")
	w.WantCount("published before it commits", w.Drain(s), 3)
	w.Note(late, "20")
	w.Commit("4")
	commit := func() { w.Must(late.Commit(w.Ctx)) }
	before.do.Store(&commit)
	w.WantCount("published when it has committed", w.Drain(s), 3)
	order := world.Query[string](w, `SELECT string_agg(data ->> 'amount', ' ' ORDER BY "offset") FROM unilog.records`)
	if strings.Index(order, "10") > strings.Index(order, "20") {
		t.Errorf("the order is %s: of one transaction the second record comes first", order)
	}
}
