package status

import (
	"fmt"

	"github.com/rocketrides/unilog/internal/loop"
)

const holdsBack = "; it holds the retention back, unless it has expired"

// troubles are those of a consumer, which may be the last of all.
func (c *Consumer) troubles(s *Status, most map[int]int64) (out []string) {
	if c.Paused != nil {
		out = append(out, fmt.Sprintf("%s is paused for %.0f s, by %s: let it go on with `%s consumers resume %s`", c.Name, c.Paused.Seconds, c.Paused.By, s.command(), c.Name))
	}
	halted, behind := c.halted()
	out = append(out, c.haltTroubles(s, most, halted)...)
	for of, group := range grouped(behind, func(p *ConsumerPartition) standing { return p.standing(s, c.Paused != nil) }) {
		all, last := ConsumerPartition{}, false
		for _, p := range group {
			all.Lag, all.Checkpoint = all.Lag+p.Lag, all.Checkpoint+p.Checkpoint
			all.LagSeconds, all.Silent = max(all.LagSeconds, p.LagSeconds), max(all.Silent, p.Silent)
			last = last || c.isLast(&p, most)
		}
		in := where(s, group)
		from, keeps := "", ""
		if last {
			keeps = holdsBack
		}
		if len(group) == 1 {
			from = fmt.Sprintf("at offset %d, ", s.Partitions[group[0].Partition].First)
		}
		if last && len(group) == 1 {
			keeps += fmt.Sprintf(": the archive keeps offset %d and later for it", all.Checkpoint+1)
		}
		late := in + fmt.Sprintf("%s is behind by %d records, %.0f s", c.Name, all.Lag, all.LagSeconds)
		switch of {
		case isAhead:
			out = append(out, in+fmt.Sprintf("%s is ahead of the database, at offset %d of %d: was that restored to an earlier time?",
				c.Name, all.Checkpoint, all.Checkpoint+all.Lag))
		case isShort:
			out = append(out, in+fmt.Sprintf("%s is behind by %d records and the archive begins %safter its next one: "+
				"unless the log still holds that, forget the consumer and start it anew with --bootstrap", c.Name, all.Lag, from))
		case isPaused:
			out = append(out, late+keeps)
		case isSilent:
			out = append(out, fmt.Sprintf("%s, and has been silent for %.0f s: it halted or is not running%s", late, all.Silent, keeps))
		case isSlow:
			out = append(out, fmt.Sprintf("%s: see what it logs%s", late, keeps))
		}
	}
	if c.DeadLetters > 0 {
		out = append(out, fmt.Sprintf("%s has parked %d records: see `%s deadletters list %s`", c.Name, c.DeadLetters, s.command(), c.Name))
	}
	return out
}

func (p *ConsumerPartition) standing(s *Status, paused bool) standing {
	of := &s.Partitions[p.Partition]
	switch {
	case p.Lag < 0:
		return isAhead
	case p.Lag > 0 && p.Checkpoint+1 < of.First:
		return isShort
	case p.LagSeconds <= slow, p.Checkpoint >= of.Published: // it has all there is, or will soon
		return isEven
	case paused:
		return isPaused
	case p.Silent > 2*loop.Heartbeat.Seconds():
		return isSilent
	}
	return isSlow
}

// isLast says whether nobody else has come less far in a partition.
func (c *Consumer) isLast(p *ConsumerPartition, most map[int]int64) bool {
	return p.Lag == most[p.Partition] && !c.Elsewhere
}

// halted returns the partitions in which it has, and the others.
func (c *Consumer) halted() (halted, behind []ConsumerPartition) {
	for _, p := range c.Behind {
		if p.Halted != nil {
			halted = append(halted, p)
		} else {
			behind = append(behind, p)
		}
	}
	return halted, behind
}

func (c *Consumer) haltTroubles(s *Status, most map[int]int64, halted []ConsumerPartition) (out []string) {
	for i, p := range halted {
		if i == namedMost {
			return append(out, fmt.Sprintf("%s has halted in %d more partitions", c.Name, len(halted)-i))
		}
		says := where(s, halted[i:i+1]) + fmt.Sprintf("%s has halted for %.0f s", c.Name, p.Halted.Seconds)
		if at := p.Halted.Offset; at > 0 {
			says += fmt.Sprintf(" at offset %d, which it rejects: %s: mend what rejects it, or go on without that record: `%s consumers skip %s %d %d`",
				at, p.Halted.Why, s.command(), c.Name, p.Partition, at)
		} else {
			says += ": " + p.Halted.Why
		}
		if p.Lag > 0 && c.isLast(&p, most) {
			says += holdsBack
		}
		out = append(out, says)
	}
	return out
}
