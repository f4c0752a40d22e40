package streamer_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// TestBatchesAreNumberedMeanwhile does not let a batch pass until the two that
// follow have their offsets.
func TestBatchesAreNumberedMeanwhile(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(35)
	waited := 0
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 10
	})
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Append" {
			next := min(35, call.Offset+29)
			w.AwaitThat("the batches that follow to be numbered", func() bool {
				return world.Query[int64](w, `SELECT next_offset - 1 FROM unilog.partitions`) >= next
			})
			waited++
			if call.Offset == 21 {
				w.AwaitTrue("what is published to be recorded meanwhile", `SELECT published_offset >= 10 FROM unilog.partitions`)
			}
		}
		return do(context.WithoutCancel(ctx)) // however late
	})
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	await.Equal(t, "stream entries", 35, func() int { return len(w.Offsets()) })
	stop()
	w.Must(await.Receive(t, "the streamer to end", done))
	if waited < 4 { // or more, if a slow machine has ended a term
		t.Errorf("there were %d appends of 35 records, in batches of ten", waited)
	}
	if published := world.Query[int64](w, `SELECT published_offset FROM unilog.partitions`); published != 35 {
		t.Errorf("%d are recorded as published, want 35", published)
	}
}

// TestRingAfterARebuild publishes a part of the log again while more is numbered. When
// that is done, a leader gets from the ring what is numbered, and reads the archive no more.
func TestRingAfterARebuild(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(30)
	w.StreamAll()
	w.Wipe()
	w.CommitMany(30)
	reads := &archiveReads{}
	config := w.DB.Config().Copy()
	config.ConnConfig.Tracer = reads
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	w.Runs(func(cfg *streamer.Config) { cfg.DB, cfg.BatchRecords = db, 10 })
	w.Published(60)
	w.CheckLog()
	before := reads.n.Load()
	if before == 0 {
		t.Error("the log was brought back, and nothing was read")
	}
	n := 60
	w.Await("the archive to be read no more", func() string {
		before := reads.n.Load()
		for range 10 { // of which one may be asked for just when it is numbered
			w.Commit("1")
			n++
			w.AwaitEntries(n)
		}
		return strings.Repeat("another read ", int(reads.n.Load()-before))
	})
}

// archiveReads counts the times that the archive is read.
type archiveReads struct{ n atomic.Int64 }

func (*archiveReads) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r *archiveReads) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	if strings.Contains(q.SQL, "staged_at[lo:hi]") {
		r.n.Add(1)
	}
}

func (*archiveReads) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// Not called for the archive.
func (*archiveReads) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (*archiveReads) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
