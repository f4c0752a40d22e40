package loop

import (
	"fmt"
	"strconv"
	"time"
)

// ProgressPause is the time between two lines about long work.
const ProgressPause = 10 * time.Second

// Ages is longer than anybody waits.
const Ages = 1000 * time.Hour

// Progress measures long work that goes from one number to another. The zero value is
// ready. It is not safe for concurrent use.
type Progress struct {
	began, said time.Time
	first       int64
}

// Begin notes where the work begins.
func (p *Progress) Begin(now time.Time, at int64) { *p = Progress{began: now, said: now, first: at} }

// Due says whether it is time for a line: ten seconds after the beginning, or the last one.
func (p *Progress) Due(now time.Time) bool {
	if p.began.IsZero() || now.Sub(p.said) < ProgressPause {
		return false
	}
	p.said = now
	return true
}

// Line says how far the work is, and how long it still takes.
func (p *Progress) Line(now time.Time, at, of int64) string {
	text := fmt.Sprintf("at %s of %s", Number(at), Number(of))
	if of > 0 {
		text += fmt.Sprintf(" (%d %%)", int(100*min(1, float64(at)/float64(of))))
	}
	took := now.Sub(p.began).Seconds()
	rate := float64(at-p.first) / took
	if took <= 0 || rate <= 0 {
		return text
	}
	text += fmt.Sprintf(", %s/s", Number(int64(rate+0.5)))
	if left := float64(max(0, of-at)) / rate; left < Ages.Seconds() {
		text += ", " + Left(time.Duration(left*float64(time.Second))) + " left"
	}
	return text
}

// Took is the time since the beginning.
func (p *Progress) Took(now time.Time) time.Duration { return now.Sub(p.began).Round(time.Second) }

// Left writes a time that is only guessed, in its largest units.
func Left(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int64(d.Seconds()+0.999))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int64(d.Minutes()+0.5))
	}
	return fmt.Sprintf("%d h %d min", int64(d.Hours()), int64(d.Minutes())%60)
}

// Number writes thousands apart.
func Number(n int64) string {
	if n < 0 {
		return "-" + Number(-n)
	}
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
