package dashboard

import (
	"cmp"
	"fmt"
)

const (
	// leaderPause is the time between notes of a changed lead, which simulated
	// failures change all the time.
	leaderPause = 10_000
	// leaderless is how long nobody leads before that is worth a note.
	leaderless = 1000
	// quiet and idleQuiet are for how many seconds a consumer is silent before that
	// is worth a note: with work to do, and without.
	quiet, idleQuiet = 5, 65
)

// story makes notes of what samples, audits and `up` say. Times are Unix
// milliseconds. It is not safe for concurrent use.
type story struct {
	tell  func(note)
	words phrases
	// controlled says that `up` passes on what its processes log, from which more
	// is known than samples tell.
	controlled bool
	before     *sample

	down      map[string]int64 // servers, since
	vacant    int64            // nobody leads since, or 0
	noted     bool             // that nobody leads
	epoch     int64            // the last one that a note is about
	epochAt   int64            // when that was
	silent    map[string]bool  // consumers that are noted
	freed     map[string]int64 // when one was last no longer paused or halted
	loss      *loss            // the last one
	emptied   int64            // when `up` emptied Redis, until a loss or its absence has shown
	disagrees bool

	crashes map[string]*crash // by source
	crashed map[string]int64  // when a source last simulated a crash
	repeats map[string]int64  // when a line was last heard
}

// loss is one of records of the log, which are published again.
type loss struct {
	emptied bool // by `up`
	since   int64
	upTo    int64 // the head before
	count   int64
	over    int64 // when they were known to be back, or 0
}

func newStory(tell func(note)) story {
	return story{
		tell: tell, down: map[string]int64{}, silent: map[string]bool{}, freed: map[string]int64{},
		crashes: map[string]*crash{}, crashed: map[string]int64{}, repeats: map[string]int64{},
	}
}

func (t *story) say(at int64, kind, source, format string, args ...any) {
	t.tell(note{Time: at, Kind: kind, Source: source, Text: short(fmt.Sprintf(format, args...))})
}

// sampled notes what has changed since the sample before. The time is that at which
// the sample is known.
func (t *story) sampled(s *sample, at int64) {
	before := t.before
	t.before = s
	t.words.Engine = cmp.Or(s.Engine, t.words.Engine)
	t.unanswered(s.Time)
	t.server(s.Time, "postgres", s.Postgres)
	t.server(s.Time, "redis", s.Redis)
	if before == nil {
		t.epoch = s.Epoch
		return
	}
	if s.Postgres != "" {
		return
	}
	t.lead(s)
	if s.Redis == "" && s.Head != nil {
		t.head(before, s, at)
	}
	for i := range s.Consumers {
		for j := range before.Consumers {
			if before.Consumers[j].Name == s.Consumers[i].Name {
				t.consumer(s, &before.Consumers[j], &s.Consumers[i])
			}
		}
	}
}

func (t *story) server(at int64, name, trouble string) {
	since, down := t.down[name]
	switch {
	case trouble != "" && !down:
		t.down[name] = at
		t.say(at, "lost", name, "%s", trouble)
	case trouble == "" && down:
		delete(t.down, name)
		title := "Postgres"
		if name == "redis" {
			title = t.words.Engine
		}
		t.say(at, "recovered", name, "%s can be read again, after %s.", title, lasted(at-since))
	}
}

func (t *story) lead(s *sample) {
	switch {
	case s.Leader == nil && t.vacant == 0:
		t.vacant = s.Time
	case s.Leader == nil && !t.noted && s.Time-t.vacant >= leaderless:
		t.noted = true
		if s.Partitions > 1 {
			t.say(s.Time, "leader", "streamer", "%s", vacancy(s)+": what is staged for them waits.")
			return
		}
		t.say(s.Time, "leader", "streamer", "No streamer leads: what is staged waits.")
	case s.Leader == nil:
	case t.noted:
		t.say(s.Time, "leader", "streamer", "A streamer leads again, after %s: epoch %d.", lasted(s.Time-t.vacant), s.Epoch)
		t.noted, t.vacant, t.epoch, t.epochAt = false, 0, s.Epoch, s.Time
	default:
		t.vacant = 0
		changes := s.Epoch - t.epoch
		if t.controlled {
			t.epoch = s.Epoch
			return
		}
		if changes == 0 || s.Time-t.epochAt < leaderPause {
			return
		}
		t.epoch, t.epochAt = s.Epoch, s.Time
		if changes == 1 {
			t.say(s.Time, "leader", "streamer", "The lead has changed: session %d leads, in epoch %d.", s.Leader.PID, s.Epoch)
		} else {
			t.say(s.Time, "leader", "streamer", "The lead has changed %s times: session %d leads, in epoch %d.", number(changes), s.Leader.PID, s.Epoch)
		}
	}
}

// What is told of a loss comes in any order: samples show it or not, a streamer
// logs it, and `up` tells that it has emptied Redis. Each has its own time.

// head notes that the log has lost records, and that it has them again.
func (t *story) head(before, s *sample, at int64) {
	if t.loss == nil || t.loss.over > 0 {
		var whole int64
		if before.Head != nil {
			whole = *before.Head
		}
		if t.emptied > 0 {
			whole = max(whole, s.Published)
		}
		switch {
		case *s.Head < whole:
			t.begin(s.Time, *s.Head+1, whole)
		case t.emptied > 0 && whole >= s.First: // rebuilt since
			t.begin(s.Time, s.First, whole)
		}
		t.emptied = 0 // or there was nothing to lose
	}
	if l := t.loss; l != nil && l.over == 0 && *s.Head >= l.upTo {
		l.over = at
		t.rebuilt(s.Time)
	}
}

// begin begins a loss of the records from one offset to another.
func (t *story) begin(at, first, last int64) {
	t.loss = &loss{emptied: t.emptied > 0, since: at, upTo: last, count: last - first + 1}
	if t.emptied > 0 {
		t.loss.since, t.emptied = t.emptied, 0
		return
	}
	t.say(at, "lost", "redis", "The log has lost %s: it is at offset %s and was at %s.", records(t.loss.count), number(first-1), number(last))
}

func (t *story) rebuilt(at int64) {
	what := "The log had lost records"
	if t.loss.emptied {
		what = "Redis was emptied"
	}
	t.say(at, "rebuilt", "redis", "%s; %s came back from the archive within %s.", what, records(t.loss.count), lasted(t.loss.over-t.loss.since))
}

// hasLost takes a streamer's word for it: it knows best which records are lost.
func (t *story) hasLost(at, first, last int64) {
	open := t.loss != nil && (t.loss.over == 0 || at <= t.loss.over)
	several := t.before != nil && t.before.Partitions > 1 // and this is about one
	switch {
	case open && !several:
		t.loss.count, t.loss.upTo = last-first+1, max(t.loss.upTo, last)
	case !open && several:
		t.begin(at, t.before.First, t.before.Published)
	case !open:
		t.begin(at, first, last)
	}
}

// wasEmptied explains a loss that is known, or the next.
func (t *story) wasEmptied(at, heard int64) {
	switch l := t.loss; {
	case l == nil || l.over > 0 && at > l.over:
		t.emptied = at
	case !l.emptied:
		l.emptied, l.since = true, at
		if l.over > 0 { // and was noted without its cause
			t.rebuilt(heard)
		}
	}
}

func (t *story) consumer(s *sample, before, c *consumerFigure) {
	if more := c.DeadLetters - before.DeadLetters; more > 0 && !t.controlled {
		t.say(s.Time, "halted", c.Name, "%s has parked %s in dead_letters, now %s.", c.Name, records(more), number(c.DeadLetters))
	}
	t.stopped(s.Time, before, c)
	waits := c.Lag > 0 && s.Redis == "" && s.Head != nil && c.Checkpoint < *s.Head
	// One that was paused or had halted shows life, and begins to work, a little later.
	free := float64(s.Time-t.freed[c.Name]) / 1000
	switch {
	case c.Paused != "" || c.Halted != "":
		delete(t.silent, c.Name)
	case c.Silent < before.Silent && t.silent[c.Name]:
		delete(t.silent, c.Name)
		t.say(s.Time, "recovered", c.Name, "%s is at work again, after %s.", c.Name, lasted(int64(before.Silent*1000)))
	case t.silent[c.Name]:
	case waits && !c.Elsewhere && min(c.Silent, free) > quiet && c.LagSeconds > quiet:
		t.silent[c.Name] = true
		t.say(s.Time, "halted", c.Name, "%s has been silent for %.0f s and %s wait for it: it is frozen, has halted or does not run.",
			c.Name, c.Silent, records(c.Lag))
	case min(c.Silent, free) > idleQuiet && s.Redis == "":
		t.silent[c.Name] = true
		t.say(s.Time, "halted", c.Name, "%s has shown no life for %.0f s: it is frozen, has halted or does not run.", c.Name, c.Silent)
	}
}

// stopped tells that a consumer is paused or has halted, and that it no longer is or has.
func (t *story) stopped(at int64, before, c *consumerFigure) {
	switch {
	case c.Paused != "" && before.Paused == "":
		t.say(at, "info", c.Name, "%s is paused by %s.", c.Name, c.Paused)
	case c.Paused == "" && before.Paused != "":
		t.freed[c.Name] = at
		t.say(at, "info", c.Name, "%s is no longer paused.", c.Name)
	}
	switch {
	case c.Halted != "" && before.Halted == "" && !t.controlled: // or its log has said so
		t.say(at, "halted", c.Name, "%s %s: %s.", c.Name, c.Halted, c.Why)
	case c.Halted == "" && before.Halted != "":
		t.freed[c.Name] = at
		t.say(at, "recovered", c.Name, "%s is no longer halted.", c.Name)
	}
}

func (t *story) audited(a *auditFigure) {
	if a.Error != "" || a.Checks == 0 || a.Agrees != t.disagrees {
		return
	}
	t.disagrees = !a.Agrees
	if a.Agrees {
		t.say(a.Time, "recovered", "audit", "All consumers agree with the database again.")
		return
	}
	for _, b := range a.Balances {
		if !b.Agrees {
			t.say(a.Time, "lost", b.Consumer, "%s does not agree with the database: the difference is %s.", b.Consumer, t.words.Amount(b.Difference))
		}
	}
}
