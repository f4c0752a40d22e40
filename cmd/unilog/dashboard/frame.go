package dashboard

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
)

// Colours that are as far from white as from black. What they say, a sign or a
// word says too.
var (
	strong  = lipgloss.NewStyle().Bold(true)
	muted   = lipgloss.NewStyle().Foreground(lipgloss.Color("243"))
	good    = lipgloss.NewStyle().Foreground(lipgloss.Color("28")).Bold(true)
	warning = lipgloss.NewStyle().Foreground(lipgloss.Color("130")).Bold(true)
	bad     = lipgloss.NewStyle().Foreground(lipgloss.Color("160")).Bold(true)
	flow    = lipgloss.NewStyle().Foreground(lipgloss.Color("31"))
	plain   = lipgloss.NewStyle()
)

const (
	unknown = "–"
	// notesLeast is how many lines notes have at the least, if consumers can be
	// left out for them, and noteMost how many one note has at the most.
	notesLeast, noteMost = 4, 3
	// nameMost bounds the column of names.
	nameMost = 24
	// narrow and wide are the widths where there is no room for everything, and for
	// more.
	narrow, wide = 60, 116
)

// frame is what is drawn for a terminal's size.
type frame struct {
	*scene
	width, height int
	name          int // the width of names
	lines         []string
}

// lines draws the scene. Nothing is wider than the width, and there are no more
// lines than the height.
func (v *scene) lines(width, height int) []string {
	f := &frame{scene: v, width: width, height: height}
	f.header()
	f.summary()
	if v.sample != nil {
		shown := f.consumersShown()
		f.name = max(len("published"), min(ansi.StringWidth(f.words.Did), nameMost))
		for _, c := range v.sample.Consumers[:shown] {
			f.name = max(f.name, min(ansi.StringWidth(clean(c.Name)), nameMost, width/6))
		}
		f.stations(shown)
		f.speed()
		f.add("")
		if f.words.Audited {
			f.equation(shown)
			f.add("")
		}
	}
	f.news()
	return f.lines[:min(len(f.lines), height)]
}

func (f *frame) add(line string) {
	f.lines = append(f.lines, ansi.Truncate(line, f.width, "…"))
}

// paragraph adds lines of text after a sign, as many as there may be.
func (f *frame) paragraph(sign string, style lipgloss.Style, text string, most int) {
	indent := ansi.StringWidth(sign)
	lines := strings.Split(ansi.Wrap(text, max(1, f.width-indent), ""), "\n")
	if len(lines) > most {
		lines = lines[:most]
		lines[most-1] += strings.Repeat(" ", f.width) // so that it is cut
	}
	for _, line := range lines {
		f.add(sign + style.Render(line))
		sign = strings.Repeat(" ", indent)
	}
}

// split puts something at the end of a line, if there is room for it.
func (f *frame) split(left, right string) {
	if gap := f.width - ansi.StringWidth(left) - ansi.StringWidth(right); gap >= 2 {
		left += strings.Repeat(" ", gap) + right
	}
	f.add(left)
}

func (f *frame) header() {
	right := muted.Render("q ends it   ") + f.now.Format(time.TimeOnly)
	if f.sample != nil && f.stale() {
		right = warning.Render("figures of "+clock(f.read)) + "   " + right
	}
	f.split(strong.Render(f.words.Title), right)
}

// summary says how things are, in two lines that are always there.
func (f *frame) summary() {
	sign, style, text := f.state()
	before := len(f.lines)
	f.paragraph(style.Render(sign)+" ", style, text, 2)
	for len(f.lines) < before+2 {
		f.add("")
	}
}

// consumersShown is for how many consumers there is room, each of which takes a
// line in both tables.
func (f *frame) consumersShown() int {
	n := len(f.sample.Consumers)
	const others = 14 // lines
	if room := (f.height - others - notesLeast) / 2; n > room {
		n = max(1, room-1) // and a line for the rest
	}
	return min(n, len(f.sample.Consumers))
}

// news shows the last notes, the latest first.
func (f *frame) news() {
	f.add(strong.Render("EVENTS"))
	if len(f.notes) == 0 {
		f.add(muted.Render("  nothing has happened yet"))
	}
	for i := len(f.notes) - 1; i >= 0 && len(f.lines) < f.height; i-- {
		n := f.notes[i]
		sign, style := noteSign(n.Kind)
		at := clock(n.Time)
		if f.width < narrow {
			at = at[:len("15:04")]
		}
		f.paragraph(muted.Render(at)+" "+style.Render(sign)+" ", plain, clean(n.Text), noteMost)
	}
}

// noteSign marks a kind of note, as the page does.
func noteSign(kind string) (string, lipgloss.Style) {
	switch kind {
	case "lost", "halted":
		return "!", bad
	case "recovered":
		return "✓", good
	case "rebuilt", "restart":
		return "↻", good
	case "leader":
		return "▲", flow
	case "simulated", "crash", "killed", "frozen", "refused":
		return "×", warning
	}
	return "·", muted
}

// clean makes text from elsewhere harmless to a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, text)
}

// clock shows Unix milliseconds as the time of day.
func clock(ms int64) string { return time.UnixMilli(ms).Format(time.TimeOnly) }

// right and left pad a text, or cut it, to a width.
func right(text string, width int) string {
	return strings.Repeat(" ", max(0, width-ansi.StringWidth(text))) + text
}

func left(text string, width int) string {
	text = ansi.Truncate(text, width, "…")
	return text + strings.Repeat(" ", width-ansi.StringWidth(text))
}

// perSecond has a decimal where that says something.
func perSecond(rate float64) string {
	switch {
	case math.IsNaN(rate):
		return unknown
	case rate < 9.95:
		return fmt.Sprintf("%.1f", rate)
	}
	return number(int64(rate + 0.5))
}

// seconds writes them for a person.
func seconds(s float64) string { return lasted(int64(max(0, s) * 1000)) }

// whole writes seconds without a fraction, for what goes on.
func whole(s float64) string { return (time.Duration(max(0, s)) * time.Second).String() }
