package dashboard

import (
	"fmt"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
)

// late is when an audit is not of now any more, which is more than one takes and
// pauses.
const late = time.Minute

// verdict says whether the totals agree, and since when.
func (f *frame) verdict() (sign string, style lipgloss.Style, text string) {
	a := f.audit
	equal := map[bool]string{true: "EQUAL", false: "NOT EQUAL"}[a.Agrees]
	why := ""
	switch {
	case a.Error != "":
		why = "it could not be made: " + clean(a.Error)
	case f.stale():
		why = "Postgres cannot be read"
	case f.now.UnixMilli()-a.Time > late.Milliseconds():
		why = "there is no word of it"
	}
	switch {
	case why != "" && a.Checks == 0:
		return "?", warning, "UNKNOWN: " + why
	case why != "":
		return "?", warning, fmt.Sprintf("UNKNOWN; at %s it was %s: %s", clock(a.Time), strings.ToLower(equal), why)
	case len(a.Balances) == 0:
		return "·", muted, "there is no consumer to compare with yet"
	case a.Agrees:
		sign, style = "=", good
	default:
		sign, style = "≠", bad
	}
	text = fmt.Sprintf("%s since %s, for %s", equal, clock(a.Since), whole(float64(a.Time-a.Since)/1000))
	for _, b := range a.Balances {
		if !b.Agrees {
			text += fmt.Sprintf("; %s is off by %s", clean(b.Consumer), f.words.Amount(grouped(b.Difference)))
		}
	}
	return sign, style, text
}

// equation shows the audit: the truth, and what each consumer makes of it.
func (f *frame) equation(shown int) {
	a := f.audit
	if a == nil {
		f.add(strong.Render("AUDIT"))
		return
	}
	sign, style, text := f.verdict()
	f.split(strong.Render("AUDIT ")+style.Render(sign+" "+text), muted.Render("checks: "+number(a.Checks)))
	if a.Checks == 0 {
		return
	}
	known, body := sign == "=" || sign == "≠", plain
	if !known {
		body = muted
	}
	amount := max(12, len(grouped(a.Truth))) + 1
	if f.width >= narrow {
		amount = max(16, amount)
	}
	parks := false
	for _, b := range a.Balances {
		parks = parks || strings.Trim(b.Parked, "0.") != ""
	}
	row := func(sign, name string, amounts ...string) string {
		text := left(sign, 2) + left(name, f.name)
		for i, a := range amounts {
			switch {
			case i == 3 && !parks:
			case lipgloss.Width(text)+amount > f.width:
				return text + " …"
			default:
				text += right(a, amount)
			}
		}
		return text
	}
	f.add(muted.Render(row("", f.words.Measure, "total", "+ in the log", "+ staged", "+ parked")))
	f.add(body.Render(row("", f.words.Truth, like(a.Truth, a.Truth))))
	for i, b := range a.Balances {
		if i == shown && len(a.Balances) > shown {
			break // the verdict is about all
		}
		sign, style := "=", body
		switch {
		case !known:
			sign = "?"
		case !b.Agrees:
			sign, style = "≠", bad
		}
		f.add(style.Render(row(sign, clean(b.Consumer), like(b.Total, a.Truth), like(b.Ahead, a.Truth), like(b.Staged, a.Truth), like(b.Parked, a.Truth))))
	}
}

// grouped puts commas into a decimal.
func grouped(decimal string) string {
	whole, fraction, point := strings.Cut(decimal, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		whole += "." + fraction
	}
	return whole
}

// like writes a decimal with at least as many digits after the point as another.
func like(decimal, other string) string {
	_, fraction, _ := strings.Cut(decimal, ".")
	_, wanted, _ := strings.Cut(other, ".")
	if missing := len(wanted) - len(fraction); missing > 0 {
		if fraction == "" {
			decimal += "."
		}
		decimal += strings.Repeat("0", missing)
	}
	return grouped(decimal)
}
