package bench

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// progress draws a bar on a terminal. It is safe for concurrent use.
type progress struct {
	out   io.Writer // nil draws nothing
	total int       // rounds, warm-ups included

	mu       sync.Mutex
	done     int
	round    string
	from, to float64 // the share of the round that what happens is
	drawn    time.Time
}

const (
	barWidth = 30
	// drawPause keeps the drawing from costing anything.
	drawPause = 100 * time.Millisecond
)

func newProgress(out io.Writer, total int) *progress { return &progress{out: out, total: total} }

func (p *progress) begin(part string, round, rounds int) {
	p.mu.Lock()
	p.round = fmt.Sprintf("%s, round %d of %d", part, round, rounds)
	if round == 0 {
		p.round = part + ", warm-up"
	}
	p.from, p.to, p.drawn = 0, 1, time.Time{}
	p.mu.Unlock()
	p.show(0, "")
}

// span says which share of the round comes now, as fractions.
func (p *progress) span(from, to float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from, p.to = from, to
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
}

// show says what happens, and how much of its span is done, from 0 to 1.
func (p *progress) show(fraction float64, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out == nil || time.Since(p.drawn) < drawPause {
		return
	}
	p.drawn = time.Now()
	whole := float64(p.done) + p.from + fraction*(p.to-p.from)
	fmt.Fprintf(p.out, "\r\x1b[K%s %s  %s", bar(whole/float64(p.total)), p.round, what)
}

func (p *progress) clear() {
	if p.out != nil {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func bar(fraction float64) string {
	full := int(min(max(fraction, 0), 1) * barWidth)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "]"
}
