package dashboard

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// scene is what a terminal shows: the last of all that viewers are told. Nothing
// that it points to changes. The methods that take news do nothing without one.
type scene struct {
	words  phrases
	now    time.Time
	sample *sample // nil until there is one
	read   int64   // when the figures of the sample were read
	recent []*sample
	// missing is what the log seems to lack, and lost what it has lacked twice: its
	// head and Postgres are not read at the same instant.
	missing, lost int64
	audit         *auditFigure // nil until there is one
	notes         []note       // oldest first
}

// rateSpan is the time that rates are means over.
const rateSpan = 4 * time.Second

func (v *scene) sampled(s *sample) {
	if v == nil {
		return
	}
	v.sample = s
	v.words.Engine = cmp.Or(s.Engine, v.words.Engine)
	before := v.missing
	v.missing = 0
	if s.Redis == "" {
		v.missing = s.Published
		if s.Head != nil {
			v.missing = max(0, s.Published-*s.Head)
		}
	}
	v.lost = min(v.missing, before)
	if s.Postgres != "" {
		v.recent = nil
		return
	}
	v.read = s.Time
	recent := append(slices.Clone(v.recent), s)
	v.recent = slices.DeleteFunc(recent, func(r *sample) bool { return s.Time-r.Time > rateSpan.Milliseconds() })
}

func (v *scene) audited(a *auditFigure) {
	if v != nil {
		figure := *a
		v.audit = &figure
	}
}

func (v *scene) noted(n note) {
	if v != nil {
		v.notes = append(slices.Clone(v.notes), n)
		v.notes = v.notes[max(0, len(v.notes)-notesMost):]
	}
}

// rate is how many a second a count of the samples has grown by, and not a number
// as long as that cannot be told.
func (v *scene) rate(count func(*sample) (n int64, known bool)) float64 {
	if len(v.recent) == 0 {
		return math.NaN()
	}
	first, last := v.recent[0], v.recent[len(v.recent)-1]
	from, known := count(first)
	to, knows := count(last)
	seconds := float64(last.Time-first.Time) / 1000
	if !known || !knows || seconds < 0.7 {
		return math.NaN()
	}
	return max(0, float64(to-from)/seconds)
}

// checkpointOf counts what a consumer has applied.
func checkpointOf(name string) func(*sample) (int64, bool) {
	return func(s *sample) (int64, bool) {
		i := slices.IndexFunc(s.Consumers, func(c consumerFigure) bool { return c.Name == name })
		if i < 0 {
			return 0, false
		}
		return s.Consumers[i].Checkpoint, true
	}
}

// stale says that the figures are not of now.
func (v *scene) stale() bool { return v.sample == nil || v.sample.Postgres != "" }
