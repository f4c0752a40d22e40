package redislog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestEntriesWithoutWhatARecordHas sees that none is taken for a record.
func TestEntriesWithoutWhatARecordHas(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"data", "action", "object"} {
		f := setup(t)
		args := []string{"XADD", f.stream, "1-0", "staged_at", "1"}
		for _, name := range []string{"data", "action", "object"} {
			if name != field {
				args = append(args, name, "1")
			}
		}
		f.command(args...)
		if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); err == nil || !strings.Contains(err.Error(), "it lacks data, action or object") {
			t.Errorf("without %s it reads %v and says %v", field, read, err)
		}
	}
}

// TestEmptyDataIsNoRecord, unless it is an empty body.
func TestEmptyDataIsNoRecord(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.command("XADD", f.stream, "1-0", "data", "", "action", "a", "object", "o", "staged_at", "1", "content_type", "a/b")
	f.command("XADD", f.stream, "2-0", "data", "", "action", "a", "object", "o", "staged_at", "1", "content_type", "")
	f.command("XADD", f.stream, "3-0", "action", "a", "object", "o", "staged_at", "1", "content_type", "a/b")
	read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0)
	if err != nil || len(read) != 1 || read[0].ContentType != "a/b" || read[0].Body == nil || read[0].Data != nil {
		t.Errorf("it reads %+v and says %v", read, err)
	}
	for after := range int64(2) {
		if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: after + 1}, 10, 0); err == nil {
			t.Errorf("after %d it reads %+v", after+1, read)
		}
	}
}

func TestEntriesOfStrangers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	f.command("XADD", f.stream, "1-5", "data", "1")
	got, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0)
	if err != nil || len(got) != 1 {
		t.Errorf("before the stranger's entry: %v, %v", got, err)
	}
	if _, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: 1}, 10, 0); err == nil || !strings.Contains(err.Error(), "1-5") {
		t.Errorf("the stranger's entry: %v", err)
	}
	// An id by the clock is beyond every offset: the streamer will refuse to run.
	f.command("XADD", f.stream, "*", "data", "1")
	if _, err := f.log.Append(t.Context(), unilog.Term{LogID: "a", Epoch: 1}, []unilog.Entry{entry(2)}); !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("append behind an id by the clock: %v", err)
	}
}
