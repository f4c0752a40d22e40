package reader

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

const (
	// staleAge is how old what is read must be to count as a backlog, and not as news.
	staleAge = 10 * time.Second
	// farBehind is how many records a backlog has that is worth a line.
	farBehind = 10_000
)

// mark is where a reader has last advanced to, and when what it read last was staged.
type mark struct {
	offset int64
	staged time.Time
}

// CatchUp says in the log how far readers are that work through a backlog, every ten
// seconds. Who reads what is new asks for nothing.
type CatchUp struct {
	// Readers returns those of this process, one for a partition.
	Readers func() []*Reader
	Logger  *slog.Logger

	progress loop.Progress
	last     map[*Reader]int64 // offsets, as last looked; nil until one is known
	saying   bool
}

// Keep does so until ctx ends.
func (c *CatchUp) Keep(ctx context.Context) {
	for ctx.Err() == nil {
		loop.Sleep(ctx, time.Second)
		if ctx.Err() == nil {
			c.look(ctx, time.Now())
		}
	}
}

// look says how far they are, if they have got on with a backlog for ten seconds.
func (c *CatchUp) look(ctx context.Context, now time.Time) {
	begun := c.last != nil
	if begun && !c.progress.Due(now) {
		return
	}
	before := c.last
	at, busy := int64(0), []*Reader(nil)
	c.last = nil
	same := true
	for _, r := range c.Readers() {
		m := r.mark.Load()
		if m == nil {
			continue
		}
		if c.last == nil {
			c.last = map[*Reader]int64{}
		}
		c.last[r] = m.offset
		at += m.offset
		from, known := before[r]
		same = same && known
		if known && m.offset > from && now.Sub(m.staged) > staleAge {
			busy = append(busy, r)
		}
	}
	if !same || len(c.last) != len(before) || len(busy) == 0 {
		if same && c.saying && len(busy) == 0 {
			c.over(ctx, now, at)
		}
		c.saying = false
		c.progress.Begin(now, at)
		return
	}
	behind, err := behind(ctx, busy)
	if err != nil || behind < farBehind {
		return // what cannot be asked the readers say themselves
	}
	c.saying = true
	c.Logger.Info("catching up: " + c.progress.Line(now, at, at+behind))
}

// over says that they have caught up, unless they stand still.
func (c *CatchUp) over(ctx context.Context, now time.Time, at int64) {
	if behind, err := behind(ctx, slices.Collect(maps.Keys(c.last))); err == nil && behind < farBehind {
		c.Logger.Info("caught up", "offset", at, "took", c.progress.Took(now))
	}
}

// behind asks the log how much is ahead of readers.
func behind(ctx context.Context, readers []*Reader) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	for _, r := range readers {
		head, err := r.Head(ctx)
		if err != nil {
			return 0, err
		}
		if m := r.mark.Load(); m != nil {
			n += max(0, head.Offset-m.offset)
		}
	}
	return n, nil
}
