package pglog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/pglog"
)

// long is longer than a test waits.
const long = 2 * await.Patience

// waiting reads what follows an offset in the background, for as long as it takes.
func (w *world) waiting(log *pglog.Log, after int64) (result func() []unilog.Entry) {
	type answer struct {
		entries []unilog.Entry
		err     error
	}
	answers := make(chan answer, 1)
	ctx, cancel := context.WithCancel(w.ctx)
	w.Cleanup(cancel)
	go func() {
		entries, err := log.Read(ctx, 0, unilog.Cursor{Offset: after}, 10, long)
		answers <- answer{entries, err}
	}()
	return func() []unilog.Entry {
		w.Helper()
		a := await.Receive(w, fmt.Sprintf("the read of what follows offset %d", after), answers)
		w.must(a.err)
		return a.entries
	}
}

func (w *world) want(got []unilog.Entry, first, last int64) {
	w.Helper()
	if len(got) != int(last-first+1) || got[0].Offset != first {
		w.Errorf("read %v, want offsets %d to %d", got, first, last)
	}
}

func TestReadIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const size = 100_000
	large := record(1)
	large.Key = strings.Repeat("k", size)
	w.must(unilog.Stage(w.ctx, w.db, slices.Repeat([]unilog.Record{large}, 100)...))
	w.drain(w.streamer())
	got := w.read(w.log, 0)
	const limit = 4 << 20
	if n := len(got) * size; n < limit/2 || n > limit+size {
		t.Errorf("it read %d entries, %d bytes, want about %d bytes", len(got), n, limit)
	}
	w.want(got, 1, int64(len(got)))
}

// BenchmarkRead reads 4,000 entries.
func BenchmarkRead(b *testing.B) {
	w := setup(b)
	const records = 4000
	w.stage(1, records)
	w.drain(w.streamer())
	b.ReportAllocs()
	for b.Loop() {
		read, err := w.log.Read(w.ctx, 0, unilog.Cursor{}, records, 0)
		if err != nil || len(read) != records {
			b.Fatal(len(read), err)
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}
