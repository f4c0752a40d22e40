package streamer_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
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
	testenv.ClosePool(t, db)
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

// TestRecordsKeepTheirOrderInASmallMemory has steps whose groups do not fit into what a
// statement may keep in memory.
func TestRecordsKeepTheirOrderInASmallMemory(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(64, 1)
	w.Exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''64kB''', current_database()); END $$`)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 5000 })
	stageInOrder(w)
	w.WantCount("published", w.Drain(s), 5000)
	wantInOrder(w)
}

// TestRecordsKeepTheirOrderWithoutTheSettings takes the session's settings away, as a pooler
// does that shares sessions and was not seen to.
func TestRecordsKeepTheirOrderWithoutTheSettings(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 64} {
		t.Run(strconv.Itoa(partitions), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			if partitions > 1 {
				w.Repartition(partitions, 1)
			}
			s := w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 5000 })
			w.Commit("1")
			w.Drain(s)
			_, err := s.Sessions()[1].Exec(w.Ctx, `RESET enable_seqscan; RESET enable_bitmapscan; SET enable_hashagg = off`)
			w.Must(err)
			stageInOrder(w)
			w.WantCount("published", w.Drain(s), 5000)
			wantInOrder(w)
		})
	}
}

func stageInOrder(w *world.World) {
	w.Helper()
	w.Exec(`INSERT INTO unilog.staged_records (action, object, key, data)
		SELECT 'a', repeat('o', 100), '', json_build_object('n', n) FROM generate_series(1, 5000) AS n`)
}

func wantInOrder(w *world.World) {
	w.Helper()
	w.WantCount("records before one that was staged earlier", world.Query[int](w, `
		SELECT count(*) FROM (
			SELECT (data ->> 'n')::int - lag((data ->> 'n')::int) OVER (PARTITION BY partition ORDER BY "offset") AS step FROM unilog.records
		) AS s WHERE step < 0`), 0)
}
