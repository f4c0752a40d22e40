package reader

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/logtest"
)

// TestCatchUpSaysHowFar lets time pass over the readers of two partitions.
func TestCatchUpSaysHowFar(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory()
	var said bytes.Buffer
	readers := []*Reader{New(Config{Partition: 0, Log: log}), New(Config{Partition: 1, Log: log})}
	c := &CatchUp{Readers: func() []*Reader { return readers }, Logger: slog.New(slog.NewTextHandler(&said, nil))}
	log.Put(unilog.Entry{Partition: 0, Offset: 300_000})
	log.Put(unilog.Entry{Partition: 1, Offset: 100})
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	staged := now.Add(-time.Hour)
	after := func(what string, passed time.Duration, offset int64, want string) {
		t.Helper()
		now = now.Add(passed)
		readers[0].mark.Store(&mark{offset, staged})
		said.Reset()
		c.look(t.Context(), now)
		if got := said.String(); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s it says %q, want %q", what, got, want)
		}
	}
	readers[1].mark.Store(&mark{100, staged})
	after("at first", time.Second, 1000, "")
	after("soon", 9*time.Second, 91_000, "")
	after("after 10 s", time.Second, 101_000, "catching up: at 101,100 of 300,100 (33 %), 10,000/s, 20 s left")
	after("when it stands still", 10*time.Second, 101_000, "")
	after("when it goes on", 10*time.Second, 201_000, "catching up: at 201,100 of 300,100 (67 %), 10,000/s, 10 s left")
	after("when little is left", 10*time.Second, 299_000, "")
	staged = now.Add(time.Hour)
	after("at the end", 10*time.Second, 300_000, "caught up")
	after("later", 10*time.Second, 300_000, "")
}
