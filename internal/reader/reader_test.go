package reader_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/reader"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

func TestNextGoesOnFromWhereItsOwnerIs(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.write("ours", 5)
	f.want(2, 1, 2)
	f.want(3, 1, 2, 3) // nobody has advanced
	f.Advance(unilog.Cursor{Offset: 2})
	f.want(10, 3, 4, 5)
	f.Advance(unilog.Cursor{Offset: 5})
	f.want(10)
}

// TestPassGoesOnBeforeTheCheckpoint sees that what was passed over comes again only if it
// was not saved.
func TestPassGoesOnBeforeTheCheckpoint(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.write("ours", 5)
	wantSaved := func(saved int64, unsaved bool) {
		t.Helper()
		if f.Saved().Offset != saved || f.Unsaved() != unsaved {
			t.Errorf("saved is %d, unsaved %v; want %d, %v", f.Saved().Offset, f.Unsaved(), saved, unsaved)
		}
	}
	f.want(2, 1, 2)
	f.Pass(unilog.Cursor{Offset: 2})
	f.want(2, 3, 4)
	wantSaved(0, true)
	f.Forget()
	f.want(2, 1, 2)
	wantSaved(0, false)
	f.Pass(unilog.Cursor{Offset: 2})
	f.Advance(unilog.Cursor{Offset: 3})
	wantSaved(3, false)
	f.want(10, 4, 5)
}

func TestNextEndsAtABarrier(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.write("ours", 5)
	f.log.Put(unilog.Entry{
		Record: unilog.Record{Action: "repartition", Object: unilog.ReservedObject, Data: []byte(`{"partitions":2,"offsets":[3,1]}`)},
		Offset: 3,
	})
	f.want(10, 1, 2)
	f.Advance(unilog.Cursor{Offset: 2})
	entries, b, err := f.Next(t.Context(), 0, 10)
	f.must(err)
	if len(entries) != 1 || entries[0].Offset != 3 || b == nil || b.Partitions != 2 {
		t.Fatalf("next are %v and the barrier %v", offsets(entries), b)
	}
	f.Advance(unilog.Cursor{Offset: 3})
	f.want(10, 4, 5)
}

// TestLogIsReplacedAroundARead puts another database's log, with the same offsets, in
// the place of the log as soon as it was asked something.
func TestLogIsReplacedAroundARead(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Read", "Head"} {
		for _, when := range []string{"before", "after"} {
			t.Run(when+" "+method, func(t *testing.T) {
				t.Parallel()
				f := setup(t, "ours")
				f.write("ours", 5)
				f.log.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
					if call.Method != method {
						return do(ctx)
					}
					if when == "before" {
						f.log.SetLogID(0, "another")
						return do(ctx)
					}
					defer f.log.SetLogID(0, "another")
					return do(ctx)
				})
				got, err := f.next(0, 10)
				if method == "Head" && when == "after" {
					f.must(err) // what was read before that was ours
				} else if len(got) > 0 || !errors.Is(err, errForeign) {
					t.Errorf("next are %v, %v; want an error", got, err)
				}
			})
		}
	}
}

// TestUnclaimedLogIsEmpty lets a log be lost that nobody has claimed since.
func TestUnclaimedLogIsEmpty(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.want(10)
	f.write("", 2)
	if got, err := f.next(0, 10); len(got) > 0 || !errors.Is(err, errForeign) {
		t.Errorf("next are %v, %v; want what the owner says", got, err)
	}
}

// TestForgetDropsWhatWasRead replaces the log, by one with the same id and the same
// offsets, after its end was read, or was being read ahead.
func TestForgetDropsWhatWasRead(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(f *fixture){
		"pending": func(f *fixture) { f.want(1, 1) },
		"ahead": func(f *fixture) {
			f.want(10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
			entries, _, err := f.Next(f.Context(), 0, 10)
			f.must(err)
			read := make(chan struct{})
			f.log.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
				if call.Method == "Head" {
					defer close(read)
				}
				return do(ctx)
			})
			f.ReadAhead(f.Context(), entries)
			await.Receive(f, "the end of the read ahead", read)
			f.log.Intercept(nil)
			f.Advance(entries[9].Cursor())
			f.place.at = f.At()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, "ours")
			f.write("ours", 20)
			read(f)
			f.Forget()
			f.write("ours", 30)
			for offset := int64(1); offset <= 30; offset++ {
				f.log.Put(unilog.Entry{Record: world.Record("100"), Offset: offset})
			}
			f.must(f.Load(t.Context()))
			entries, _, err := f.Next(t.Context(), 0, 1)
			f.must(err)
			if len(entries) != 1 || string(entries[0].Data) != `{"amount":100}` {
				t.Errorf("next is %s", entries[0].Data)
			}
		})
	}
}

// TestReadAhead sees that what follows a batch is read before it is asked for.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.write("ours", 25)
	reads := make(chan int64, 10)
	f.log.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Read" {
			reads <- call.Offset
		}
		return do(ctx)
	})
	f.must(f.Load(t.Context()))
	for _, want := range []int64{10, 20} {
		entries, _, err := f.Next(t.Context(), 0, 10)
		f.must(err)
		f.ReadAhead(t.Context(), entries[:5]) // more is pending
		f.ReadAhead(t.Context(), entries)
		if want == 10 {
			<-reads
		}
		if got := await.Receive(t, "a read ahead", reads); got != want {
			t.Errorf("it reads after offset %d, want %d", got, want)
		}
		f.Advance(entries[9].Cursor())
	}
	f.want(10, 21, 22, 23, 24, 25)
	entries, _, err := f.Next(t.Context(), 0, 10)
	f.must(err)
	f.ReadAhead(t.Context(), entries) // the end of the log
	f.Forget()
	if len(reads) > 0 {
		t.Errorf("it reads after offset %d for nothing", <-reads)
	}
}

// limits is a log that fails as long as it is told to, and notes how many entries it
// was asked for.
type limits struct {
	unilog.Log
	asked []int
	fail  bool
}

func (l *limits) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	l.asked = append(l.asked, limit)
	if l.fail {
		return nil, errors.New("too much")
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

func TestReadsAskForLessAfterAFailure(t *testing.T) {
	t.Parallel()
	log := &limits{fail: true}
	f := setup(t, "ours", func(cfg *reader.Config) { log.Log, cfg.Log = cfg.Log, log })
	f.write("ours", 0)
	for range 5 {
		var failed *unilog.LogError
		if _, err := f.next(0, 10); !errors.As(err, &failed) {
			t.Fatalf("it says %v", err)
		}
	}
	log.fail = false
	for range 5 {
		f.want(10)
	}
	if got := fmt.Sprint(log.asked); got != "[10 5 2 1 1 1 2 4 8 10]" {
		t.Errorf("it asked for %s", got)
	}
}

// twice gives all entries up to the cursor, and no others, unless it is asked for what
// follows the last of those by its position.
type twice struct{ *logtest.Memory }

func (l twice) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if after.Position == "given twice" {
		return l.Memory.Read(ctx, partition, after, limit, wait)
	}
	entries, err := l.Memory.Read(ctx, partition, unilog.Cursor{}, int(after.Offset), wait)
	for i := range entries {
		entries[i].Position = "given twice"
	}
	return entries, err
}

func TestNothingButDuplicates(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours", func(cfg *reader.Config) { cfg.Log = twice{cfg.Log.(*logtest.Memory)} })
	f.write("ours", 5)
	f.place.at.Offset = 3
	f.want(10)
	f.want(10, 4, 5)
	if got := fmt.Sprint(offsets(f.skipped)); got != "[1 2 3]" {
		t.Errorf("skipped: %s", got)
	}
}

// weighed is a log that notes how many bytes the reader can hold of what it was given:
// of the entries that its owner has not advanced over.
type weighed struct {
	unilog.Log
	mu    sync.Mutex
	sizes map[int64]int
	most  int
}

func (l *weighed) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	entries, err := l.Log.Read(ctx, partition, after, limit, wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.sizes[e.Offset] = len(e.Data)
	}
	held := 0
	for _, size := range l.sizes {
		held += size
	}
	l.most = max(l.most, held)
	return entries, err
}

func (l *weighed) advance(to int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for offset := range l.sizes {
		if offset <= to {
			delete(l.sizes, offset)
		}
	}
}

// TestReaderHoldsTwoReads has many small records, and then large ones. The reader holds
// those of one read, and at most those of the next.
func TestReaderHoldsTwoReads(t *testing.T) {
	t.Parallel()
	log := &weighed{sizes: map[int64]int{}}
	f := setup(t, "ours", func(cfg *reader.Config) { log.Log, cfg.Log, cfg.Limit = cfg.Log, log, 4000 })
	const small, large, size = 5000, 30, 1 << 20
	f.write("ours", small)
	text := `"` + strings.Repeat("x", size-2) + `"`
	for n := range int64(large) {
		f.log.Put(unilog.Entry{Record: unilog.Record{Action: "note", Object: "amount", Data: []byte(text)}, Offset: small + n + 1})
	}
	f.must(f.Load(t.Context()))
	read := 0
	for {
		entries, _, err := f.Next(t.Context(), 0, 4000)
		f.must(err)
		if len(entries) == 0 {
			break
		}
		f.ReadAhead(t.Context(), entries)
		read += len(entries)
		last := entries[len(entries)-1]
		f.Advance(last.Cursor())
		log.advance(last.Offset)
	}
	if read != small+large {
		t.Errorf("it gives %d records", read)
	}
	if limit := 2 * (archive.BatchBytes + size); log.most > limit || log.most < archive.BatchBytes {
		t.Errorf("it holds up to %d bytes, want at most %d", log.most, limit)
	}
}
