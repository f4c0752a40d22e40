package dashboard

import (
	"fmt"
	"math"
	"strings"

	"charm.land/lipgloss/v2"
)

// behind is after how many seconds of waiting that is worth a sentence.
const behind = 2

// written counts what was ever staged.
func written(s *sample) (int64, bool) { return s.Numbered + s.Staged, !s.MoreAre }

// state says in a sentence or two how things are, the worst first.
func (v *scene) state() (sign string, style lipgloss.Style, text string) {
	if a := v.audit; a != nil && !a.Agrees && a.Error == "" && len(a.Balances) > 0 {
		return "≠", bad, "The totals do not agree. That must never happen: see the audit."
	}
	if v.sample == nil {
		return "·", muted, "Waiting for the first reading …"
	}
	if troubles := v.troubles(); len(troubles) > 0 {
		return "!", warning, strings.Join(troubles, " ")
	}
	if v.sample.Numbered+v.sample.Staged == 0 {
		return "·", muted, fmt.Sprintf("All is ready. Nothing has been %s yet.", v.words.Did)
	}
	rate := v.rate(written)
	switch {
	case math.IsNaN(rate):
		return "✓", good, "All is well."
	case rate == 0:
		return "✓", good, fmt.Sprintf("All is well, and nobody %s just now.", v.words.Does)
	}
	text = fmt.Sprintf("All is well: %s %s a second", perSecond(rate), v.words.Many)
	if l := v.sample.Latency; l != nil {
		text += fmt.Sprintf(", half of them at their consumers within %s", lasted(int64(l.P50)))
	}
	return "✓", good, text + "."
}

func (v *scene) troubles() (list []string) {
	s := v.sample
	if s.Postgres != "" {
		list = append(list, fmt.Sprintf("Postgres cannot be read; nothing is lost, and nothing can be %s until it is back. Figures are of %s.", v.words.Did, clock(v.read)))
	}
	switch {
	case s.Redis != "":
		list = append(list, fmt.Sprintf("%s cannot be read; %s are %s all the same, and %s wait in Postgres.", v.words.Engine, v.words.Many, v.words.Did, v.words.Waiting))
	case v.lost > 0 && s.Postgres == "":
		list = append(list, fmt.Sprintf("%s has lost %s; the streamer publishes again what readers still need.", v.words.Engine, records(v.lost)))
	}
	if s.Postgres != "" {
		return list
	}
	switch waiting := s.Staged + max(0, s.Numbered-s.Published); {
	case s.Leader == nil && s.Partitions > 1:
		list = append(list, fmt.Sprintf("%s: %s wait.", vacancy(s), records(waiting)))
	case s.Leader == nil && waiting == 0:
		list = append(list, "No streamer leads.")
	case s.Leader == nil:
		list = append(list, fmt.Sprintf("No streamer leads: %s wait.", records(waiting)))
	case s.StagedFor > behind:
		list = append(list, fmt.Sprintf("%s wait to be numbered, the oldest for %s.", records(s.Staged), seconds(s.StagedFor)))
	}
	for _, c := range s.Consumers {
		wait := "."
		if c.Lag > 0 {
			wait = fmt.Sprintf("; %s wait for it.", records(c.Lag))
		}
		switch {
		case c.Paused != "":
			list = append(list, clean(c.Name)+" is paused by "+clean(c.Paused)+wait)
		case c.Halted != "":
			list = append(list, clean(c.Name)+" "+clean(c.Halted)+wait)
		case c.Lag > 0 && c.LagSeconds > behind:
			list = append(list, fmt.Sprintf("%s is %s behind, %s.", clean(c.Name), records(c.Lag), seconds(c.LagSeconds)))
		}
		if c.DeadLetters > 0 {
			list = append(list, fmt.Sprintf("%s has parked %s.", clean(c.Name), records(c.DeadLetters)))
		}
	}
	return list
}

// vacancy says how many partitions nobody leads.
func vacancy(s *sample) string {
	return fmt.Sprintf("%d of %d partitions have no leader", s.Partitions-s.Leaders, s.Partitions)
}
