package dashboard

import (
	"fmt"
	"math"
	"strings"

	"charm.land/lipgloss/v2"
)

// full is the backlog at which a bar is full. It fills by the logarithm.
const full = 10_000

// station is a place on the way of the records, and what waits before the next.
type station struct {
	name, count  string
	rate         float64
	waiting      int64 // or less than 0, where nothing waits
	more         string
	age, latency string
	trouble      bool
	says         string
}

// stations shows the records' way as a table.
func (f *frame) stations(shown int) {
	s := f.sample
	unpublished := max(0, s.Numbered-s.Published)
	published := station{
		name: "published", count: number(s.Published), rate: f.rate(func(s *sample) (int64, bool) { return s.Published, true }),
		waiting: f.lost, trouble: f.lost > 0 || s.Redis != "", says: "what consumers read",
	}
	switch {
	case s.Redis != "":
		published.waiting, published.says = -1, f.words.Engine+" cannot be read"
	case f.lost > 0:
		published.says = "lost: being built again"
	}
	staged := station{
		name: "staged", count: number(s.Numbered + s.Staged), rate: f.rate(written),
		waiting: s.Staged, trouble: s.StagedFor > behind, says: "committed, not yet in line",
	}
	if s.Staged > 0 {
		staged.age = seconds(s.StagedFor)
	}
	if s.MoreAre {
		staged.count += "+"
		staged.more = "+"
	}
	count := unknown
	switch {
	case !f.words.Audited:
		count = staged.count
	case f.audit != nil && f.audit.Checks > 0 && f.audit.Count != nil:
		count = number(*f.audit.Count)
	}
	f.add(muted.Render(f.columns("", "so far", "a second", "waiting", "for", "latency")))
	for _, row := range []station{
		{name: f.words.Did, count: count, rate: staged.rate, waiting: -1, says: f.words.Many + " that are committed"},
		staged,
		{
			name: "numbered", count: number(s.Numbered), rate: f.rate(func(s *sample) (int64, bool) { return s.Numbered, true }),
			waiting: unpublished, says: "in line for good, no gaps",
		},
		published,
	} {
		f.station(row)
	}
	for _, c := range s.Consumers[:shown] {
		f.station(f.reader(c))
	}
	if rest := s.Consumers[shown:]; len(rest) > 0 {
		var most int64
		for _, c := range rest {
			most = max(most, c.Lag)
		}
		f.add(muted.Render(fmt.Sprintf("  and %d more, at most %s behind", len(rest), records(most))))
	}
}

func (f *frame) reader(c consumerFigure) station {
	row := station{
		name: clean(c.Name), count: number(c.Checkpoint), rate: f.rate(checkpointOf(c.Name)),
		waiting: max(0, c.Lag), trouble: c.Lag > 0 && c.LagSeconds > behind || c.DeadLetters > 0, latency: unknown,
	}
	if c.Lag > 0 {
		row.age = seconds(c.LagSeconds)
	}
	if c.Latency != nil {
		row.latency = lasted(int64(*c.Latency))
	}
	switch {
	case c.Paused != "":
		row.says = "paused by " + clean(c.Paused)
	case c.Halted != "":
		row.trouble, row.says = true, clean(c.Halted+": "+c.Why)
	case c.DeadLetters > 0:
		row.says = records(c.DeadLetters) + " parked"
	case c.Silent > idleQuiet:
		row.trouble, row.says = true, "silent for "+seconds(c.Silent)
	case c.Pace != "":
		row.says = c.Pace
	case c.Lag <= 0:
		row.says = "up to date"
	}
	if c.Elsewhere {
		row.says = strings.TrimSuffix("elsewhere, "+row.says, ", ")
	}
	return row
}

// columns are those of a station, but for the bar.
func (f *frame) columns(name, count, rate, waiting, age, latency string) string {
	if f.width < narrow {
		return "  " + left(name, f.name) + right(count, 12) + right(strings.TrimPrefix(rate, "a "), 8) + right(waiting, 9)
	}
	return "  " + left(name, f.name) + right(count, 14) + right(rate, 10) + right(waiting, 10) + right(age, 10) + right(latency, 9)
}

func (f *frame) station(row station) {
	waiting := ""
	if row.waiting >= 0 {
		waiting = number(row.waiting) + row.more
	}
	text := f.columns(row.name, row.count, perSecond(row.rate), waiting, row.age, row.latency)
	style, barStyle := plain, flow
	switch {
	case f.stale():
		style, barStyle = muted, muted
	case row.trouble:
		style, barStyle = warning, warning
		text = "!" + text[1:]
	}
	room := f.width - lipgloss.Width(text) - 2
	line := style.Render(text)
	size := min(room, 40)
	if f.width >= wide {
		size = 20
	}
	if size >= 5 {
		line += "  " + barStyle.Render(bar(row.waiting, size))
		if room -= size + 2; f.width >= wide && room > 0 {
			line += "  " + muted.Render(row.says)
		}
	}
	f.add(line)
}

// bar shows a backlog, padded to its width.
func bar(n int64, width int) string {
	if n <= 0 {
		return strings.Repeat(" ", width)
	}
	fill := min(1, math.Log10(1+float64(n))/math.Log10(1+full))
	eighths := max(1, int(math.Round(fill*float64(width*8))))
	text := strings.Repeat("█", eighths/8)
	if part := eighths % 8; part > 0 {
		text += string(rune('█' + 8 - part))
	}
	return left(text, width)
}

// speed tells of the leader and of latencies.
func (f *frame) speed() {
	p50, p99 := unknown, unknown
	if l := f.sample.Latency; l != nil && !f.stale() {
		p50, p99 = lasted(int64(l.P50)), lasted(int64(l.P99))
	}
	latency := "  latency p50" + right(p50, 8) + "  p99" + right(p99, 8)
	leader := "nobody leads"
	if l := f.sample.Leader; l != nil {
		leader = fmt.Sprintf("session %d leads for %s", l.PID, whole(l.Seconds))
	}
	leader = fmt.Sprintf("epoch %s, %s", number(f.sample.Epoch), leader)
	if n := f.sample.Partitions; n > 1 {
		leader += fmt.Sprintf(", %d partitions", n)
	}
	if f.width < narrow {
		f.add(latency)
		f.add("  " + leader)
		return
	}
	f.add(latency + "   " + leader)
}
