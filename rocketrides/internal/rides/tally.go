package rides

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// tally counts what became of the simulator's rides and prints it. It is safe
// for concurrent use.
type tally struct {
	out     io.Writer
	metrics *SimulatorMetrics
	// each asks for a line for each response rather than one for each second.
	each bool

	mu sync.Mutex
	// window covers the second that runs, total all of them.
	window, total counts
	firstFailure  string
}

type counts struct {
	created, failed, missed, cutOff, retries int
	// Of the rides that were created.
	took, slowest time.Duration
}

func (c *counts) add(a answer) {
	c.retries += a.retries
	switch {
	case a.created():
		c.created++
		c.took += a.took
		c.slowest = max(c.slowest, a.took)
	case a.cutOff:
		c.cutOff++
	default:
		c.failed++
	}
}

func (c *counts) String() string {
	s := fmt.Sprintf("%d created, %d failed, %d not sent", c.created, c.failed, c.missed)
	if c.retries > 0 {
		s += fmt.Sprintf(", %d sent again", c.retries)
	}
	if c.cutOff > 0 {
		s += fmt.Sprintf(", %d cut off by the end", c.cutOff)
	}
	if c.created > 0 {
		mean := c.took / time.Duration(c.created)
		s += fmt.Sprintf("; answered in %s on average, %s at most",
			mean.Round(100*time.Microsecond), c.slowest.Round(100*time.Microsecond))
	}
	return s
}

func (a answer) created() bool { return a.err == nil && a.status == http.StatusCreated }

func (a answer) String() string {
	switch {
	case a.cutOff:
		return "cut off by the end"
	case a.err != nil:
		return "failed: " + a.err.Error()
	default:
		return fmt.Sprintf("status=%d body=%s", a.status, a.body)
	}
}

func (t *tally) add(a answer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.answered(a)
	before := t.total.failed
	t.window.add(a)
	t.total.add(a)
	failed := t.total.failed > before
	if failed && t.firstFailure == "" {
		t.firstFailure = a.String()
	}
	switch {
	case t.each:
		t.line("Response: %s", a)
	case failed && t.window.failed == 1:
		// One example a second says what goes wrong without flooding the screen.
		t.line("Response: %s", a)
	}
}

// miss counts a ride that came due while every slot was taken.
func (t *tally) miss() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.metrics.notSent()
	t.window.missed++
	t.total.missed++
	if t.each {
		t.line("Not sent: the api has yet to answer every request that may be in flight")
	}
}

// second prints the running second's counts, unless each response is printed.
func (t *tally) second() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.each {
		t.line("Rides: %s", &t.window)
	}
	t.window = counts{}
}

// finish prints the summary, and returns an error if requests failed.
func (t *tally) finish(took time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line("Rides in %s: %s", took.Round(100*time.Millisecond), &t.total)
	if t.total.failed > 0 {
		return fmt.Errorf("simulator: %d of %d requests failed; the first: %s",
			t.total.failed, t.total.failed+t.total.created+t.total.cutOff, t.firstFailure)
	}
	return nil
}

func (t *tally) setEach(each bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.each = each
}

func (t *tally) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(format, args...)
}

// line is called with the lock held, so that lines never mix.
func (t *tally) line(format string, args ...any) {
	_, _ = fmt.Fprintf(t.out, format+"\n", args...)
}
