package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// progress says how far long work is: on a terminal by a line that is written over,
// elsewhere by one every ten seconds. It is safe for concurrent use.
type progress struct {
	log  *slog.Logger // or nil: then lines go where errors do
	what string
	out  io.Writer
	tty  bool

	mu    sync.Mutex
	p     loop.Progress
	drawn time.Time // the last line
	shown bool
}

// drawPause is the time between two lines on a terminal. Nothing is drawn before work has
// taken a second.
const drawPause = 250 * time.Millisecond

func newProgress(log *slog.Logger, what string) *progress {
	p := &progress{log: log, what: what, out: os.Stderr, tty: isScreen(os.Stderr)}
	p.p.Begin(time.Now(), 0)
	p.drawn = time.Now().Add(time.Second)
	return p
}

// at says how much is done, if it is time to.
func (p *progress) at(n, of int64) {
	p.say(func(now time.Time) string { return p.p.Line(now, n, of) })
}

// working says for how long work goes on that does not say how far it is, until the
// function that it returns is called.
func working(ctx context.Context, log *slog.Logger, what string) (end func()) {
	return newProgress(log, what).beside(ctx)
}

func (p *progress) beside(ctx context.Context) (end func()) {
	ctx, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for ctx.Err() == nil {
			loop.Sleep(ctx, drawPause)
			p.say(func(now time.Time) string { return fmt.Sprintf("for %v so far", p.p.Took(now)) })
		}
	}()
	return func() {
		stop()
		<-over
		p.end()
	}
}

func (p *progress) say(line func(now time.Time) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch now := time.Now(); {
	case !p.tty && !p.p.Due(now):
	case !p.tty && p.log == nil:
		fmt.Fprintf(p.out, "%s: %s\n", p.what, line(now))
	case !p.tty:
		p.log.Info(p.what + ": " + line(now))
	case now.Sub(p.drawn) >= drawPause:
		p.drawn, p.shown = now, true
		fmt.Fprintf(p.out, "\r\x1b[K%s: %s", p.what, line(now))
	}
}

// end takes the line away.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tty && p.shown {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
