package logtest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

func testTrim(t *testing.T, h *harness) {
	h.needsOwnEntries()
	h.append(1, 1, 1000)
	if err := h.Log.Trim(t.Context(), 0, 900); err != nil {
		t.Fatal(err)
	}
	h.wantHead(1000, 1)
	got := h.read(0, 2000)
	if len(got) == 0 || got[0].Offset > 901 {
		t.Fatalf("the trim took more than it was told: %d entries are left", len(got))
	}
	if got[0].Offset < 600 {
		t.Errorf("the trim left the entries from %d on", got[0].Offset)
	}
	h.wantOffsets(got, got[0].Offset, 1000)
	h.append(1, 1001, 1002)
}

func testCursor(_ *testing.T, h *harness) {
	h.append(1, 1, 30)
	var at unilog.Cursor
	for first := int64(1); first <= 30; first += 10 {
		got, err := h.Log.Read(h.Context(), 0, at, 10, 0)
		if err != nil {
			h.Fatal(err)
		}
		h.wantOffsets(got, first, first+9)
		at = unilog.Cursor{Offset: got[9].Offset, Position: got[9].Position}
	}
	got, err := h.Log.Read(h.Context(), 0, at, 10, 0)
	if err != nil || len(got) != 0 {
		h.Errorf("after the last entry: %d entries, %v", len(got), err)
	}
}

// testReadBytes reads small entries and then large ones, of which few fit into a
// read however many small ones did, and small ones again. Each read has to come
// near to what it may return: or else a log is slow.
func testReadBytes(t *testing.T, h *harness) {
	const small, large, last = 2000, 2030, 3000
	all := entries(1, last)
	for i := small; i < large; i++ {
		all[i].Data = json.RawMessage(`"` + strings.Repeat("x", unilog.MaxRecordBytes-100) + `"`)
	}
	if _, err := h.Log.Claim(t.Context(), term(1)); err != nil {
		t.Fatal(err)
	}
	for next, n := 0, 0; next < last; next += n { // as much as a streamer sends at once
		for n = 1; next+n < last && n < 1000 && (next+n < small || next+n >= large || n < 4); n++ {
		}
		if _, err := h.Log.Append(t.Context(), term(1), all[next:next+n]); err != nil {
			t.Fatal(err)
		}
	}
	reads := 0
	for at := (unilog.Cursor{}); at.Offset < last; reads++ {
		got, err := h.Log.Read(t.Context(), 0, at, last, 0)
		if err != nil || len(got) == 0 {
			t.Fatalf("after %d: %d entries, %v", at.Offset, len(got), err)
		}
		h.wantOffsets(got, at.Offset+1, at.Offset+int64(len(got)))
		size := 0
		for i := range got {
			size += got[i].Size()
		}
		if largest := got[len(got)-1].Size(); size-largest > unilog.ReadBytes {
			t.Errorf("a read after %d returns %d entries with %d bytes", at.Offset, len(got), size)
		}
		at = got[len(got)-1].Cursor()
	}
	if reads > 20 {
		t.Errorf("it takes %d reads", reads)
	}
}

// longWait is longer than a test waits.
const longWait = 2 * await.Patience

func testReadWaits(t *testing.T, h *harness) {
	type result struct {
		entries []unilog.Entry
		err     error
	}
	results := make(chan result, 1)
	go func() {
		got, err := h.Log.Read(t.Context(), 0, unilog.Cursor{}, 10, longWait)
		results <- result{got, err}
	}()
	h.append(1, 1, 1)
	r := await.Receive(t, "a read to see the first entry", results)
	if r.err != nil {
		t.Fatal(r.err)
	}
	h.wantOffsets(r.entries, 1, 1)
}

func testReadGivesUp(t *testing.T, h *harness) {
	h.append(1, 1, 3)
	got, err := h.Log.Read(t.Context(), 0, unilog.Cursor{Offset: 3}, 10, time.Millisecond)
	if err != nil || len(got) != 0 {
		t.Errorf("with nothing to read: %d entries, %v; want none and no error", len(got), err)
	}
}

func testReadCancelled(t *testing.T, h *harness) {
	// With a deadline, too, as its callers have.
	ctx, cancel := context.WithTimeout(t.Context(), longWait)
	errs := make(chan error, 1)
	go func() {
		_, err := h.Log.Read(ctx, 0, unilog.Cursor{}, 10, longWait)
		errs <- err
	}()
	cancel()
	if err := await.Receive(t, "a cancelled read to end", errs); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled read returned %v", err)
	}
}

func testPartitions(t *testing.T, h *harness) {
	h.append(7, 1, 3)
	one := unilog.Term{Partition: 1, LogID: logID, Epoch: 2}
	other := entries(1, 2)
	for i := range other {
		other[i].Partition = 1
	}
	if _, err := h.Log.Append(t.Context(), one, other); err != nil {
		t.Fatal(err)
	}
	got, err := h.Log.Read(t.Context(), 1, unilog.Cursor{}, 10, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.wantOffsets(got, 1, 2)
	if got[0].Partition != 1 {
		t.Errorf("an entry of partition 1 says that it is of %d", got[0].Partition)
	}
	h.wantHead(3, 7)
}
