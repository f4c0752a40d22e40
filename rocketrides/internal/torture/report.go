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
	pairs  count
	total  int
	missed int // found nothing to do
}

// count is of one fault, or of two at once.
type count struct {
	times     int
	lasted    time.Duration // at most
	recovered []time.Duration
}

func (c *count) add(lasted, recovered time.Duration) {
	c.times++
	c.lasted = max(c.lasted, lasted)
	c.recovered = append(c.recovered, recovered)
}

// quantile returns one of the recoveries.
func (c *count) quantile(q float64) time.Duration {
	slices.Sort(c.recovered)
	return c.recovered[int(q*float64(len(c.recovered)-1))]
}

func (t *tally) begin(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.under = append(t.under, name)
}

// now says what is injected, or not recovered from; "" if nothing is.
func (t *tally) now() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.under, " and ")
}

func (t *tally) end(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.under, name); i >= 0 {
		t.under = slices.Delete(t.under, i, i+1)
	}
}

// add counts a fault that came with others or alone. Who recovers from several
// at once does not tell how long each takes.
func (t *tally) add(name string, together int, lasted, recovered time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total++
	c := t.counts[name]
	if c == nil {
		c = new(count)
		t.counts[name] = c
	}
	if together == 1 {
		c.add(lasted, recovered)
		return
	}
	c.times++
	t.pairs.add(lasted, recovered)
}

func (t *tally) miss() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed++
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
				fmt.Fprint(t.Out, "\x1b[?7l"+line+"\x1b[?7h") // no second line on a narrow terminal
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
	fmt.Fprintln(w, "fault\ttimes\tlasted (max)\trecovered (p50)\t(max)\t")
	row := func(name string, c *count) {
		fmt.Fprintf(w, "%s\t%d\t", name, c.times)
		if len(c.recovered) == 0 {
			fmt.Fprintln(w, "-\t-\t-\t")
			return
		}
		fmt.Fprintf(w, "%.1f s\t%.2f s\t%.2f s\t\n", c.lasted.Seconds(), c.quantile(0.5).Seconds(), c.quantile(1).Seconds())
	}
	var never []string
	for _, f := range t.engine.catalogue() {
		if c := t.tally.counts[f.name]; c != nil {
			row(f.name, c)
		} else if slices.Contains(t.Faults, f.name) {
			never = append(never, f.name)
		}
	}
	row("any two at once", &t.tally.pairs)
	_ = w.Flush()
	if len(never) > 0 {
		fmt.Fprintln(t.Out, "\nNot injected, for lack of time:", strings.Join(never, ", "))
	}
	if strangers := t.engine.strangers(); len(strangers) > 0 {
		fmt.Fprintf(t.Out, "\nNot of %s: %s\n", t.engine.name, strings.Join(strangers, ", "))
	}
	s := t.watch.now()
	took := time.Since(t.began)
	asked := (took - s.away).Seconds()
	fmt.Fprintf(t.Out, "\nLasted and recovered: of those that came alone. Recovered: until every consumer had applied what was booked after\n"+
		"the fault was over; for those that others have to bear (%s),\n"+
		"after it had begun. %d others found nothing to do.\n"+
		"Audited %d times, %.1f a second while Postgres could be asked (not for %.1f s); at most %.0f ms apart; %.1f ms each: %.0f %% of one core.\n"+
		"Longest pause of any partition in which a consumer had records to apply and applied none: %s.\n\n",
		strings.Join(t.borne(), ", "), t.tally.missed, s.audits, float64(s.audits)/asked, s.away.Seconds(), float64(s.longest.Milliseconds()),
		s.spent.Seconds()*1000/float64(max(s.audits, 1)), 100*s.spent.Seconds()/asked, &t.pauses)
}

// borne are the faults that others have to bear.
func (t *torture) borne() []string {
	return names(slices.DeleteFunc(t.engine.catalogue(), func(f fault) bool { return !f.fromStart }))
}
