package reader_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/reader"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// place is a checkpoint in memory.
type place struct {
	at    unilog.Cursor
	logID string
	load  func() // called before it is loaded, if it is set
}

var errForeign = errors.New("another log")

func (p *place) Load(context.Context) (unilog.Cursor, error) {
	if p.load != nil {
		p.load()
	}
	return p.at, nil
}

func (p *place) CheckLog(logID string) error {
	if logID != p.logID {
		return fmt.Errorf("%w: %q", errForeign, logID)
	}
	return nil
}

func (p *place) CheckSource(logID string) error { return p.CheckLog(logID) }

// fixture is a reader and the log in memory that it reads.
type fixture struct {
	*testing.T
	*reader.Reader
	log     *logtest.Memory
	place   *place
	skipped []unilog.Entry
	filled  []unilog.Entry
}

func setup(t *testing.T, logID string, change ...func(*reader.Config)) *fixture {
	t.Helper()
	f := &fixture{T: t, log: logtest.NewMemory(), place: &place{logID: logID}}
	cfg := reader.Config{
		Name: "sum", Checkpoint: f.place, Log: f.log, Limit: 10, Logger: slog.New(slog.DiscardHandler),
		Skipped:   func(_ context.Context, entries []unilog.Entry) { f.skipped = append(f.skipped, entries...) },
		GapFilled: func(entries []unilog.Entry) { f.filled = append(f.filled, entries...) },
	}
	for _, c := range change {
		c(&cfg)
	}
	f.Reader = reader.New(cfg)
	return f
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// write puts a new log of so many entries in the place of the old one.
func (f *fixture) write(logID string, n int64) {
	f.Helper()
	f.log.Wipe()
	term := unilog.Term{Partitions: 1, LogID: logID, Epoch: 1}
	_, err := f.log.Claim(f.Context(), term)
	f.must(err)
	var entries []unilog.Entry
	for offset := int64(1); offset <= n; offset++ {
		entries = append(entries, unilog.Entry{Record: world.Record(fmt.Sprint(offset)), Offset: offset})
	}
	if n > 0 {
		_, err = f.log.Append(f.Context(), term, entries)
		f.must(err)
	}
}

// next loads the checkpoint, and returns the offsets that come next.
func (f *fixture) next(wait time.Duration, most int) ([]int64, error) {
	f.Helper()
	if err := f.Load(f.Context()); err != nil {
		return nil, err
	}
	entries, _, err := f.Next(f.Context(), wait, most)
	return offsets(entries), err
}

func (f *fixture) want(most int, want ...int64) {
	f.Helper()
	got, err := f.next(0, most)
	f.must(err)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		f.Fatalf("next are %v, want %v", got, want)
	}
}

func offsets(entries []unilog.Entry) (list []int64) {
	for _, e := range entries {
		list = append(list, e.Offset)
	}
	return list
}
