package status

import (
	"fmt"
	"slices"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// Pace is how fast a consumer that is behind catches up, between two looks.
type Pace struct {
	// Applies and Arrives are records a second.
	Applies float64 `json:"applies_per_second"`
	Arrives float64 `json:"arrives_per_second"`
	// CaughtUpIn is in seconds, and null if it does not catch up like that.
	CaughtUpIn *float64 `json:"caught_up_in"`
}

// worthAPace is how many records a consumer must be behind to be timed.
const worthAPace = 1000

// Behind says whether a consumer that is alive is so far behind that it is worth a second
// look, for its [Pace].
func (s *Status) Behind() bool {
	return slices.ContainsFunc(s.Consumers, func(c Consumer) bool { return c.behind() && !c.Elsewhere })
}

func (c *Consumer) behind() bool {
	return c.Lag >= worthAPace && c.Silent <= 2*loop.Heartbeat.Seconds()
}

// Since sets the Pace of each consumer that is far behind, from an earlier status of the
// same log. That of a consumer elsewhere is known if it has reported between the two.
func (s *Status) Since(before *Status) {
	for i := range s.Consumers {
		c := &s.Consumers[i]
		at := slices.IndexFunc(before.Consumers, func(b Consumer) bool { return b.Name == c.Name })
		if at < 0 || !c.behind() {
			continue
		}
		b := &before.Consumers[at]
		seconds := s.Time.Sub(before.Time).Seconds()
		applied := seconds
		if c.Elsewhere { // its checkpoints are of the times of its reports
			applied += b.Silent - c.Silent
		}
		if min(seconds, applied) >= leastPace {
			c.Pace = pace(c.Lag, float64(c.Checkpoint-b.Checkpoint)/applied, float64(s.Numbered-before.Numbered)/seconds)
		}
	}
}

// leastPace is the shortest time that says something of a rate, in seconds.
const leastPace = 0.5

func pace(lag int64, applies, arrives float64) *Pace {
	p := &Pace{Applies: max(0, applies), Arrives: max(0, arrives)}
	if gains := p.Applies - p.Arrives; gains > 0 {
		in := float64(lag) / gains
		p.CaughtUpIn = &in
	}
	return p
}

// String says when it has caught up, for a person.
func (p *Pace) String() string {
	switch {
	case p.CaughtUpIn != nil && *p.CaughtUpIn < loop.Ages.Seconds():
		return "caught up in about " + loop.Left(time.Duration(*p.CaughtUpIn*float64(time.Second)))
	case p.Applies == 0:
		return "standing still"
	}
	return "falling behind"
}

// Says is the pace in words, and of how much.
func (c *Consumer) Says() string {
	p := c.Pace
	return fmt.Sprintf("behind %s, applies %s/s, arrives %s/s, %v",
		loop.Number(c.Lag), loop.Number(int64(p.Applies+0.5)), loop.Number(int64(p.Arrives+0.5)), p)
}
