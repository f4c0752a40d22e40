package logtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(*testing.T) logtest.Harness {
		log := logtest.NewMemory()
		return logtest.Harness{Log: log, Wipe: func(*testing.T) { log.Wipe() }}
	})
}

var term = unilog.Term{LogID: "ours", Epoch: 1, Partitions: 1}

// entries makes those from one offset to another.
func entries(partition int, first, last int64) []unilog.Entry {
	var out []unilog.Entry
	for o := first; o <= last; o++ {
		out = append(out, unilog.Entry{
			Record:    unilog.Record{Action: "note", Object: "offset", Data: json.RawMessage(fmt.Sprint(o)), Headers: map[string]string{"h": "v"}},
			Partition: partition, Offset: o, StagedAt: time.UnixMicro(o).UTC(),
		})
	}
	return out
}

// ten returns a log of which ten entries are in partition 0.
func ten(t *testing.T) *logtest.Memory {
	t.Helper()
	log := logtest.NewMemory()
	_, err := log.Claim(t.Context(), term)
	must(t, err)
	_, err = log.Append(t.Context(), term, entries(0, 1, 10))
	must(t, err)
	return log
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// want sees which offsets a log holds, and its head.
func want(t *testing.T, log *logtest.Memory, head unilog.Head, offsets ...int64) {
	t.Helper()
	if got, err := log.Head(t.Context(), 0); err != nil || got != head {
		t.Errorf("the head is %+v, %v; want %+v", got, err, head)
	}
	read, err := log.Read(t.Context(), 0, unilog.Cursor{}, 1000, 0)
	must(t, err)
	for name, held := range map[string][]unilog.Entry{"a reader gets": read, "the log holds": log.Entries(0)} {
		var got []int64
		for _, e := range held {
			got = append(got, e.Offset)
		}
		if !slices.Equal(got, offsets) {
			t.Errorf("%s the offsets %v, want %v", name, got, offsets)
		}
	}
}

func appends(t *testing.T, log *logtest.Memory, first, last int64) error {
	t.Helper()
	_, err := log.Append(t.Context(), term, entries(0, first, last))
	return err
}

func TestMemoryLosesItsEnd(t *testing.T) {
	t.Parallel()
	log := ten(t)
	log.Lose(0, 20)
	want(t, log, unilog.Head{Offset: 10, LogID: "ours", Epoch: 1, Partitions: 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	log.Lose(0, 3)
	want(t, log, unilog.Head{Offset: 3, LogID: "ours", Epoch: 1, Partitions: 1}, 1, 2, 3)
	if err := appends(t, log, 11, 12); !errors.Is(err, unilog.ErrBehind) {
		t.Errorf("an append after what is lost: %v", err)
	}
	must(t, appends(t, log, 4, 5))
	log.Lose(0, 0)
	want(t, log, unilog.Head{LogID: "ours", Epoch: 1, Partitions: 1})
}

// waiting begins a read after an offset, and returns when it waits.
func waiting(t *testing.T, log *logtest.Memory, after int64) <-chan []unilog.Entry {
	t.Helper()
	read := make(chan []unilog.Entry, 1)
	go func() {
		got, _ := log.Read(t.Context(), 0, unilog.Cursor{Offset: after}, 10, time.Hour)
		read <- got
	}()
	synctest.Wait()
	return read
}

// A reader that waits while all is lost is woken by what comes then.
func TestMemoryIsWiped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := ten(t)
		read := waiting(t, log, 10)
		log.Wipe()
		want(t, log, unilog.Head{})
		must(t, appends(t, log, 1, 12))
		if got := <-read; len(got) != 2 || got[0].Offset != 11 {
			t.Errorf("the reader that waited gets %v", got)
		}
	})
}

func TestMemoryHasGaps(t *testing.T) {
	t.Parallel()
	log := ten(t)
	must(t, log.Trim(t.Context(), 0, 3))
	log.Remove(0, 5, 6, 10)
	want(t, log, unilog.Head{Offset: 10, LogID: "ours", Epoch: 1, Partitions: 1}, 4, 7, 8, 9)
	must(t, log.Trim(t.Context(), 0, 100))
	want(t, log, unilog.Head{Offset: 10, LogID: "ours", Epoch: 1, Partitions: 1})
	if err := appends(t, log, 9, 11); !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("an append of what is no more: %v", err)
	}
	must(t, appends(t, log, 11, 11))
}

func TestMemoryOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	log := ten(t)
	log.SetLogID(0, "theirs")
	var foreign *unilog.ForeignLogError
	if err := appends(t, log, 11, 11); !errors.As(err, &foreign) || foreign.Theirs != "theirs" || foreign.LogID != "ours" {
		t.Errorf("an append to another database's log: %v", err)
	}
	want(t, log, unilog.Head{Offset: 10, LogID: "theirs", Epoch: 1, Partitions: 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

func TestMemoryHoldsWhatIsPut(t *testing.T) {
	t.Parallel()
	log := ten(t)
	another := entries(0, 8, 8)[0]
	another.Action = "other"
	log.Put(another)
	var diverged *unilog.DivergedError
	if err := appends(t, log, 7, 8); !errors.As(err, &diverged) || diverged.Offset != 8 {
		t.Errorf("an append where another record is: %v", err)
	}
	if err := appends(t, log, 8, 9); !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("an append whose last entry is the same: %v", err)
	}
	log.Put(entries(0, 900, 900)[0])
	log.Put(entries(0, 50, 50)[0])
	want(t, log, unilog.Head{Offset: 900, LogID: "ours", Epoch: 1, Partitions: 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50, 900)
	if got := log.Entries(0)[7].Action; got != "other" {
		t.Errorf("at offset 8 the log holds %q", got)
	}
}

func TestMemoryWakesReadersOfWhatIsPut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := ten(t)
		read := waiting(t, log, 10)
		began := time.Now()
		log.Put(entries(0, 12, 12)[0])
		if got := <-read; len(got) != 1 || got[0].Offset != 12 || time.Now() != began {
			t.Errorf("the reader that waited gets %v after %v", got, time.Since(began))
		}
	})
}

// By a clock that stands still while anybody is at work.
func TestMemoryWaitsNoLonger(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log := ten(t)
		began := time.Now()
		if got := <-waiting(t, log, 10); len(got) > 0 || time.Since(began) != time.Hour {
			t.Errorf("a read that waits an hour returns %v after %v", got, time.Since(began))
		}
		began = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := log.Read(ctx, 0, unilog.Cursor{Offset: 10}, 10, time.Hour)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("a read with a context of a minute returns %v after %v", err, time.Since(began))
		}
	})
}

func TestMemoryRefusesEntriesThatDoNotFollow(t *testing.T) {
	t.Parallel()
	log := ten(t)
	for name, refused := range map[string][]unilog.Entry{
		"none":                 nil,
		"with a hole":          append(entries(0, 11, 12), entries(0, 14, 14)...),
		"of another partition": append(entries(0, 11, 12), entries(1, 13, 13)...),
	} {
		if _, err := log.Append(t.Context(), term, refused); err == nil {
			t.Errorf("entries %s are taken", name)
		}
	}
	want(t, log, unilog.Head{Offset: 10, LogID: "ours", Epoch: 1, Partitions: 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

// What callers do with their entries changes nothing in the log.
func TestMemorySharesNothing(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory()
	spoil := func(e unilog.Entry) {
		e.Data[0] = 'x'
		e.Headers["h"] = "x"
	}
	sent := entries(0, 1, 2)
	_, err := log.Append(t.Context(), term, sent)
	must(t, err)
	put := entries(0, 3, 3)[0]
	log.Put(put)
	read, err := log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0)
	must(t, err)
	for _, e := range slices.Concat(sent, read, log.Entries(0), []unilog.Entry{put}) {
		spoil(e)
	}
	for i, e := range log.Entries(0) {
		if string(e.Data) != fmt.Sprint(i+1) || e.Headers["h"] != "v" {
			t.Errorf("offset %d has become %s with %v", e.Offset, e.Data, e.Headers)
		}
	}
}

// What other logs do not carry is not carried here.
func TestMemoryGivesWhatOthersGive(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory()
	e := entries(0, 1, 1)[0]
	e.StagedAt = time.Unix(0, 1_234_567_890_123_456_789).In(time.FixedZone("", 3600))
	e.Headers, e.Position = map[string]string{}, "elsewhere"
	_, err := log.Append(t.Context(), term, []unilog.Entry{e})
	must(t, err)
	e.StagedAt = time.Unix(0, 1_234_567_890_123_456_000).UTC()
	e.Headers, e.Position = nil, ""
	if got := log.Entries(0)[0]; !reflect.DeepEqual(got, e) {
		t.Errorf("it gives %+v, want %+v", got, e)
	}
}

var errDown = errors.New("down")

func TestMemoryIsIntercepted(t *testing.T) {
	t.Parallel()
	log := ten(t)
	var calls []logtest.Call
	log.Intercept(func(_ context.Context, call logtest.Call, _ func(context.Context) error) error {
		calls = append(calls, call)
		return errDown
	})
	_, head := log.Head(t.Context(), 7)
	_, claim := log.Claim(t.Context(), unilog.Term{Partition: 6, LogID: "ours", Epoch: 9})
	read, readErr := log.Read(t.Context(), 0, unilog.Cursor{Offset: 4}, 10, time.Hour)
	for i, err := range []error{
		head, claim, appends(t, log, 11, 12), log.Reset(t.Context(), term, 5), readErr, log.Trim(t.Context(), 0, 3),
	} {
		if !errors.Is(err, errDown) {
			t.Errorf("call number %d returns %v", i, err)
		}
	}
	if read != nil {
		t.Errorf("a read that fails returns %v", read)
	}
	if want := []logtest.Call{
		{Method: "Head", Partition: 7},
		{Method: "Claim", Partition: 6},
		{Method: "Read", Offset: 4},
		{Method: "Append", Offset: 11},
		{Method: "Reset", Offset: 5},
		{Method: "Trim", Offset: 3},
	}; !slices.Equal(calls, want) {
		t.Errorf("the calls are %+v, want %+v", calls, want)
	}
	log.Intercept(nil)
	want(t, log, unilog.Head{Offset: 10, LogID: "ours", Epoch: 1, Partitions: 1}, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
}

func TestMemoryLosesAnswers(t *testing.T) {
	t.Parallel()
	log := ten(t)
	lose := func(ctx context.Context, _ logtest.Call, do func(context.Context) error) error {
		return errors.Join(errDown, do(ctx))
	}
	log.Intercept(lose)
	if head, err := log.Append(t.Context(), term, entries(0, 11, 12)); head != 0 || !errors.Is(err, errDown) {
		t.Errorf("an append whose answer is lost returns %d, %v", head, err)
	}
	if got, err := log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); got != nil || !errors.Is(err, errDown) {
		t.Errorf("a read whose answer is lost returns %v, %v", got, err)
	}
	log.Intercept(func(ctx context.Context, _ logtest.Call, do func(context.Context) error) error {
		if err := do(ctx); err != nil { // sent twice
			return err
		}
		return do(ctx)
	})
	if head, err := log.Append(t.Context(), term, entries(0, 13, 14)); head != 14 || !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("an append that is sent twice returns %d, %v", head, err)
	}
}

// A call that is blocked ends with its context, and holds no other up.
func TestMemoryBlocks(t *testing.T) {
	t.Parallel()
	log := ten(t)
	log.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Partition == 1 {
			<-ctx.Done()
		}
		return do(ctx)
	})
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error, 1)
	go func() {
		_, err := log.Append(ctx, unilog.Term{Partition: 1, LogID: "ours", Epoch: 1}, entries(1, 1, 1))
		blocked <- err
	}()
	must(t, appends(t, log, 11, 11))
	cancel()
	if err := await.Receive(t, "the blocked call to end", blocked); !errors.Is(err, context.Canceled) {
		t.Errorf("the blocked call returns %v", err)
	}
	if held := log.Entries(1); len(held) > 0 {
		t.Errorf("a call that was cancelled before it was served has appended %v", held)
	}
}

// TestMemoryIsConcurrent lets readers follow writers, all through an interceptor,
// while others look.
func TestMemoryIsConcurrent(t *testing.T) {
	t.Parallel()
	const partitions, batches, each = 4, 50, 3
	log := logtest.NewMemory()
	log.Intercept(func(ctx context.Context, _ logtest.Call, do func(context.Context) error) error { return do(ctx) })
	ctx := await.Context(t, "the readers to have all")
	var work errgroup.Group
	for partition := range partitions {
		work.Go(func() error {
			for b := range int64(batches) {
				batch := entries(partition, b*each+1, (b+1)*each)
				if _, err := log.Append(ctx, unilog.Term{Partition: partition, LogID: "ours", Epoch: 1}, batch); err != nil {
					return err
				}
				log.Entries(partition)
			}
			return nil
		})
		for range 3 {
			work.Go(func() error {
				var at unilog.Cursor
				for at.Offset < batches*each {
					got, err := log.Read(ctx, partition, at, 10, 2*await.Patience)
					if err != nil {
						return err
					}
					for _, e := range got {
						if e.Offset != at.Offset+1 || e.Partition != partition {
							return fmt.Errorf("partition %d: offset %d of partition %d comes after %d", partition, e.Offset, e.Partition, at.Offset)
						}
						at.Offset = e.Offset
					}
				}
				return nil
			})
		}
	}
	must(t, work.Wait())
}
