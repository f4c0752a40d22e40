package redislog_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestFormatOfANewerVersion: nothing is read from such a log, nor written to it, whatever
// its entries are like by then.
func TestFormatOfANewerVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	leader := "{" + f.stream + "}:leader"
	f.command("HSET", leader, "format", "1") // as if it were written out
	if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); err != nil || len(read) != 1 {
		t.Errorf("of format 1 it reads %v and says %v", read, err)
	}
	f.command("HSET", leader, "format", "2")
	f.command("XADD", f.stream, "2-0", "packed", "x")
	term := unilog.Term{LogID: "a", Epoch: 1 << 40, Partitions: 1}
	_, headErr := f.log.Head(t.Context(), 0)
	_, claimErr := f.log.Claim(t.Context(), term)
	_, readErr := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: 1}, 10, 0)
	for call, err := range map[string]error{"Head": headErr, "Claim": claimErr, "Read": readErr} {
		if newer := new(unilog.FormatError); !errors.As(err, &newer) || newer.Format != "2" {
			t.Errorf("%s says %v", call, err)
		}
	}
}

// TestEntryOfANewerFormat: an entry says of what format it is, for readers that do not look
// at the head in between, and would take it for one of their own.
func TestEntryOfANewerFormat(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	f.command("XADD", f.stream, "2-0", "format", "2", "data", "{}", "action", "a", "object", "o")
	if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); err != nil || len(read) != 1 {
		t.Errorf("before it, it reads %v and says %v", read, err)
	}
	read, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: 1}, 10, 0)
	if newer := new(unilog.FormatError); !errors.As(err, &newer) || newer.Format != "2" {
		t.Errorf("it reads %v and says %v", read, err)
	}
}
