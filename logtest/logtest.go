// Package logtest is the suite of tests that every [unilog.Log] passes, and
// [Memory], a log for tests that are not about a broker.
package logtest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// Harness is what the suite needs of an implementation.
type Harness struct {
	// Log is an empty log of the test's own.
	Log unilog.Log
	// Wipe loses everything that the log holds, as a crash without persistence
	// would. It is nil where the log is the database's own archive, and so can
	// neither be lost, reset or trimmed apart from it nor differ from it. What is
	// tested of that is then skipped.
	Wipe func(t *testing.T)
}

// needsOwnEntries skips a test of what cannot be asked of the archive itself.
func (h *harness) needsOwnEntries() {
	h.Helper()
	if h.Wipe == nil {
		h.Skip("the log is the database's own archive")
	}
}

// Run runs the suite. New makes a fresh harness for each test; tests run in
// parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for name, f := range map[string]func(t *testing.T, h *harness){
		"an empty log has the zero head":              testEmpty,
		"entries come back whole and in order":        testRoundTrip,
		"entries of all sizes and kinds":              testContents,
		"a batch sent again is refused":               testSentAgain,
		"a batch that overlaps is refused whole":      testOverlap,
		"a batch with a hole before it is refused":    testBehind,
		"a claim fences at once":                      testClaim,
		"another record at an offset is refused":      testDiverged,
		"a body sent again is known":                  testBodySentAgain,
		"an earlier epoch is fenced":                  testFenced,
		"another database is refused":                 testForeign,
		"of concurrent sends one is taken":            testConcurrentSends,
		"a reset moves the head":                      testReset,
		"a wiped log begins again":                    testWipe,
		"a trim keeps what comes after":               testTrim,
		"a read is bounded and goes on at its cursor": testCursor,
		"a read is bounded in bytes":                  testReadBytes,
		"a read waits for the first entry":            testReadWaits,
		"a read gives up after its wait":              testReadGivesUp,
		"a read ends with its context":                testReadCancelled,
		"partitions are apart":                        testPartitions,
		"reports of readers come back":                testReports,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, &harness{T: t, Harness: newHarness(t)})
		})
	}
}

type harness struct {
	*testing.T
	Harness
}

const logID = "0196f0c4-0000-7000-8000-000000000001"

func term(epoch int64) unilog.Term { return unilog.Term{LogID: logID, Epoch: epoch} }

// entries makes those from one offset to another.
func entries(first, last int64) []unilog.Entry {
	var out []unilog.Entry
	for o := first; o <= last; o++ {
		out = append(out, unilog.Entry{
			Record:   unilog.Record{Action: "create", Object: "ride", Data: json.RawMessage(`{"id": 1}`)},
			Offset:   o,
			StagedAt: time.UnixMicro(1_700_000_000_000_000 + o).UTC(),
		})
	}
	return out
}

func (h *harness) append(epoch, first, last int64) {
	h.Helper()
	head, err := h.Log.Append(h.Context(), term(epoch), entries(first, last))
	if err != nil || head != last {
		h.Fatalf("append %d to %d: head %d, %v", first, last, head, err)
	}
}

func (h *harness) read(after int64, limit int) []unilog.Entry {
	h.Helper()
	got, err := h.Log.Read(h.Context(), 0, unilog.Cursor{Offset: after}, limit, 0)
	if err != nil {
		h.Fatal(err)
	}
	return got
}

func (h *harness) wantOffsets(got []unilog.Entry, first, last int64) {
	h.Helper()
	if int64(len(got)) != last-first+1 {
		h.Fatalf("%d entries, want those from %d to %d", len(got), first, last)
	}
	for i, e := range got {
		if e.Offset != first+int64(i) {
			h.Fatalf("entry number %d has offset %d, want %d", i, e.Offset, first+int64(i))
		}
	}
}

func (h *harness) wantHead(offset, epoch int64) {
	h.Helper()
	got, err := h.Log.Head(h.Context(), 0)
	want := unilog.Head{Offset: offset, Epoch: epoch}
	if epoch != 0 {
		want.LogID, want.Partitions = logID, got.Partitions // see testClaim
	}
	if err != nil || got != want {
		h.Fatalf("head %+v, %v; want %+v", got, err, want)
	}
}

// wantRefused sees that an append is refused with an answer, and changes
// nothing.
func (h *harness) wantRefused(epoch, first, last int64, want error, wantHead int64) {
	h.Helper()
	before, err := h.Log.Head(h.Context(), 0)
	if err != nil {
		h.Fatal(err)
	}
	head, err := h.Log.Append(h.Context(), term(epoch), entries(first, last))
	if !errors.Is(err, want) || head != wantHead {
		h.Fatalf("append %d to %d: head %d, %v; want head %d, %v", first, last, head, err, wantHead, want)
	}
	if after, err := h.Log.Head(h.Context(), 0); err != nil || after != before {
		h.Fatalf("a refused append moved the head from %+v to %+v, %v", before, after, err)
	}
}

func testEmpty(_ *testing.T, h *harness) {
	h.wantHead(0, 0)
	h.wantOffsets(h.read(0, 10), 1, 0)
}

func testSentAgain(_ *testing.T, h *harness) {
	h.append(1, 1, 10)
	h.wantRefused(1, 1, 10, unilog.ErrAlreadyAppended, 10)
	h.append(1, 11, 20)
	h.wantRefused(1, 1, 10, unilog.ErrAlreadyAppended, 20)
	h.wantOffsets(h.read(0, 100), 1, 20)
}

func testOverlap(_ *testing.T, h *harness) {
	h.append(1, 1, 10)
	h.wantRefused(1, 6, 15, unilog.ErrAlreadyAppended, 10)
	h.append(1, 11, 15)
	h.wantOffsets(h.read(0, 100), 1, 15)
}

func testBehind(t *testing.T, h *harness) {
	if head, err := h.Log.Claim(t.Context(), term(1)); err != nil || head != 0 {
		t.Fatalf("claim: head %d, %v", head, err)
	}
	h.wantRefused(1, 2, 5, unilog.ErrBehind, 0)
	h.append(1, 1, 5)
	h.wantRefused(1, 7, 9, unilog.ErrBehind, 5)
	h.append(1, 6, 9)
	h.wantOffsets(h.read(0, 100), 1, 9)
}

func testClaim(t *testing.T, h *harness) {
	h.append(1, 1, 5)
	for range 2 { // the second claim changes nothing
		if head, err := h.Log.Claim(t.Context(), term(2)); err != nil || head != 5 {
			t.Fatalf("claim: head %d, %v", head, err)
		}
	}
	h.wantHead(5, 2)
	var fenced *unilog.FencedError
	if _, err := h.Log.Append(t.Context(), term(1), entries(6, 6)); !errors.As(err, &fenced) {
		t.Errorf("append by the epoch before: %v", err)
	}
	if _, err := h.Log.Claim(t.Context(), term(1)); !errors.As(err, &fenced) {
		t.Errorf("claim by the epoch before: %v", err)
	}
	h.append(2, 6, 6)
	for _, n := range []int{8, 3} {
		more := term(2)
		more.Partitions = n
		if head, err := h.Log.Claim(t.Context(), more); err != nil || head != 6 {
			t.Fatalf("claim for %d partitions: head %d, %v", n, head, err)
		}
		if head, err := h.Log.Head(t.Context(), 0); err != nil || head.Partitions != n || head.Epoch != 2 {
			t.Fatalf("after a claim for %d partitions: head %+v, %v", n, head, err)
		}
	}
	if h.Wipe == nil {
		return
	}
	h.Wipe(t)
	if head, err := h.Log.Claim(t.Context(), term(2)); err != nil || head != 0 {
		t.Fatalf("claim of a wiped log: head %d, %v", head, err)
	}
	h.wantHead(0, 2)
}

func testFenced(t *testing.T, h *harness) {
	h.append(3, 1, 5)
	h.append(3, 6, 6)
	h.append(4, 7, 8)
	zombie := term(3)
	for name, err := range map[string]error{
		"append": second(h.Log.Append(t.Context(), zombie, entries(9, 9))),
		"reset":  h.Log.Reset(t.Context(), zombie, 20),
	} {
		var fenced *unilog.FencedError
		if !errors.As(err, &fenced) || fenced.Epoch != 3 || fenced.Newer != 4 {
			t.Errorf("%s by an earlier epoch: %v, want it fenced by epoch 4", name, err)
		}
	}
	h.wantHead(8, 4)
}

func second(_ int64, err error) error { return err }

func testForeign(t *testing.T, h *harness) {
	h.append(1, 1, 5)
	other := unilog.Term{LogID: "0196f0c4-0000-7000-8000-000000000002", Epoch: 9}
	for name, err := range map[string]error{
		"append": second(h.Log.Append(t.Context(), other, entries(6, 6))),
		"claim":  second(h.Log.Claim(t.Context(), other)),
		"reset":  h.Log.Reset(t.Context(), other, 20),
	} {
		var foreign *unilog.ForeignLogError
		if !errors.As(err, &foreign) || foreign.Theirs != logID {
			t.Errorf("%s from another database: %v, want it refused", name, err)
		}
	}
	h.wantHead(5, 1)
}

func testConcurrentSends(t *testing.T, h *harness) {
	const senders = 8
	taken := make([]bool, senders)
	var group errgroup.Group
	for i := range senders {
		group.Go(func() error {
			_, err := h.Log.Append(t.Context(), term(1), entries(1, 100))
			taken[i] = err == nil
			if errors.Is(err, unilog.ErrAlreadyAppended) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, ok := range taken {
		if ok {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d sends of one batch were taken", n, senders)
	}
	h.wantOffsets(h.read(0, 1000), 1, 100)
}

func testReset(t *testing.T, h *harness) {
	h.needsOwnEntries()
	h.append(1, 1, 10)
	for _, head := range []int64{500, 3, 0} {
		if err := h.Log.Reset(t.Context(), term(2), head); err != nil {
			t.Fatal(err)
		}
		h.wantHead(head, 2)
		h.wantOffsets(h.read(0, 100), 1, 0)
		h.wantRefused(2, head+2, head+3, unilog.ErrBehind, head)
		h.append(2, head+1, head+5)
		h.wantOffsets(h.read(head, 100), head+1, head+5)
	}
}

func testWipe(t *testing.T, h *harness) {
	h.needsOwnEntries()
	h.append(5, 1, 10)
	h.Wipe(t)
	h.wantHead(0, 0)
	h.wantRefused(5, 11, 12, unilog.ErrBehind, 0)
	h.append(5, 1, 12)
	h.wantOffsets(h.read(0, 100), 1, 12)
}
