package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// tally counts what was injected. It is safe for concurrent use.
type tally struct {
	mu     sync.Mutex
	under  []string // faults that are injected, or not recovered from
	counts map[string]*count
	missed map[string]int
	total  int
}

// count is of one fault.
type count struct {
	lasted, recovered []time.Duration
}

func (t *tally) begin(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.under = append(t.under, name)
}

func (t *tally) end(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.under, name); i >= 0 {
		t.under = slices.Delete(t.under, i, i+1)
	}
}

func (t *tally) add(name string, lasted, recovered time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[name]
	if c == nil {
		c = new(count)
		t.counts[name] = c
	}
	c.lasted = append(c.lasted, lasted)
	c.recovered = append(c.recovered, recovered)
	t.total++
}

// miss counts a fault that found nothing to do, as when another one was there.
func (t *tally) miss(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed[name]++
}

func (t *tally) line() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := strings.Join(t.under, " and ")
	if now == "" {
		now = "no fault"
	}
	return fmt.Sprintf("%d faults  now: %s", t.total, now)
}

// live prints a line that says where things stand: every tenth of a second over
// the one before on a terminal, else every ten seconds.
func (t *torture) live(ctx context.Context) (stop func()) {
	every := 10 * time.Second
	if t.Live {
		every = 100 * time.Millisecond
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			pause(ctx, every)
			if ctx.Err() != nil {
				return
			}
			w := t.watch.now()
			line := fmt.Sprintf("%4.0f s  %d records  audited %d times: holds  lag %d  %s",
				time.Since(t.began).Seconds(), w.head, w.audits, w.lag+w.backlog, t.tally.line())
			if t.Live {
				t.clearLine()
				fmt.Fprint(t.Out, line)
			} else {
				fmt.Fprintln(t.Out, line)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (t *torture) clearLine() {
	if t.Live {
		fmt.Fprint(t.Out, "\r\x1b[K")
	}
}

// printFaults prints the table of faults.
func (t *torture) printFaults() {
	w := tabwriter.NewWriter(t.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "fault\ttimes\tlasted (s, max)\trecovered (s, p50)\t(max)\t")
	for _, f := range catalogue {
		c := t.tally.counts[f.name]
		if c == nil {
			if slices.Contains(t.Faults, f.name) {
				fmt.Fprintf(w, "%s\t0\t-\t-\t-\t\n", f.name)
			}
			continue
		}
		slices.Sort(c.recovered)
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.2f\t%.2f\t\n", f.name, len(c.recovered), slices.Max(c.lasted).Seconds(),
			c.recovered[len(c.recovered)/2].Seconds(), slices.Max(c.recovered).Seconds())
	}
	_ = w.Flush()
	s := t.watch.now()
	took := time.Since(t.began)
	asked := (took - s.away).Seconds()
	fmt.Fprintf(t.Out, "\nRecovered: until every consumer had applied what was booked after the fault was over; for faults that others\n"+
		"have to bear (freeze-leader, isolate-leader, open-writer, open-snapshot), after it had begun.\n"+
		"Audited %d times, %.1f a second while Postgres could be asked (not for %.1f s); at most %.0f ms apart; %.1f ms each: %.0f %% of one core.\n\n",
		s.audits, float64(s.audits)/asked, s.away.Seconds(), float64(s.longest.Milliseconds()),
		s.spent.Seconds()*1000/float64(max(s.audits, 1)), 100*s.spent.Seconds()/asked)
}
