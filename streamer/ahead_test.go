package streamer_test

import (
	"context"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// gatedLog waits with each append for leave, which may come late. It is for worlds on
// Redis.
type gatedLog struct {
	unilog.Log
	wait func(entries []unilog.Entry)
}

func (g gatedLog) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	g.wait(entries)
	return g.Log.Append(context.WithoutCancel(ctx), term, entries)
}

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
				return world.Query[int64](w, `SELECT next_offset - 1 FROM log_partitions`) >= next
			})
			waited++
			// Whoever numbered the last ones knew that the first batch is published.
			if published := world.Query[int64](w, `SELECT published_offset FROM log_partitions`); call.Offset == 21 && published < 10 {
				w.Errorf("%d are recorded as published when the third batch is, want 10 or more", published)
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
	w.WantCount("appends", waited, 4)
	if published := world.Query[int64](w, `SELECT published_offset FROM log_partitions`); published != 35 {
		t.Errorf("%d are recorded as published, want 35", published)
	}
}

// TestNothingIsNumberedAheadOfARebuild gives a log that has lost everything what
// the archive has first: what was numbered meanwhile would come from there too,
// and so would all that follows, for as long as there is a backlog.
func TestNothingIsNumberedAheadOfARebuild(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(30)
	w.WantCount("published", w.Drain(w.Streamer()), 30)
	w.Wipe()
	w.CommitMany(30)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 10
		cfg.Log = gatedLog{w.Log, func(entries []unilog.Entry) {
			numbered := world.Query[int64](w, `SELECT next_offset - 1 FROM log_partitions`)
			if entries[0].Offset <= 20 && numbered > 30 {
				w.Errorf("up to %d are numbered while the log is rebuilt from %d", numbered, entries[0].Offset)
			}
		}}
	})
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	await.Equal(t, "stream entries", 60, func() int { return len(w.Offsets()) })
	stop()
	w.Must(await.Receive(t, "the streamer to end", done))
	w.CheckLog()
}
