package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/rocketrides/unilog/internal/await"
)

// reload loads the page again, and waits until it shows the system.
func (s *screen) reload() {
	s.Helper()
	s.do(chromedp.Reload())
	s.sees(`data('body', 'connection') === 'open'`, `data('#now', 'level') === 'well'`, `!document.getElementById('tour-again').hidden`)
}

// tabTo goes on by Tab to what has a name, as a reader without a mouse does, and sees
// that the focus shows on the way.
func (s *screen) tabTo(name string, back ...chromedp.Modifier) {
	s.Helper()
	for range value[int](s.page, `stops().length`) + 1 {
		s.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(back...)))
		focus := value[struct {
			Name string
			Seen bool
		}](s.page, `focused()`)
		if !focus.Seen {
			s.Fatalf("the focus on %q does not show", focus.Name)
		}
		if focus.Name == name {
			return
		}
	}
	s.Fatalf("Tab does not come to %q: there are %q", name, value[[]string](s.page, `stops()`))
}

const (
	tourTitle  = `text('#tour-title')`
	tourResult = `text('[data-tour-part="result"]')`
	tourBefore = `text('[data-tour-part="before"]')`
)

// step sees the beginning of one, whose control is marked, and not covered. It is said to
// those who do not see, too, until its result is.
func (s *screen) step(n int, title string) {
	s.Helper()
	s.sees(fmt.Sprintf(tourTitle+` === 'Step %d of 6: %s'`, n, title), `document.querySelectorAll('[data-tour]').length === 1`,
		`[`+tourTitle+`, `+tourResult+`].some((said) => said && text('#tour-status').includes(said))`, `!overlaps('#tour', '[data-tour]')`, `!document.querySelector('.tour .tour')`)
	if wide := value[[]string](s.page, `overflow()`); len(wide) > 0 {
		s.Errorf("step %d overflows: %q", n, wide)
	}
}

// tour walks through it by keyboard, with the focus in the card where a step begins.
func (s *screen) tour() {
	s.sees(tourTitle+`.startsWith('New here?')`, `!document.querySelector('[data-tour]')`)
	s.do(chromedp.Focus(chromedp.CSS("#theme")))
	s.tabTo("Start the tour")
	s.press(kb.Enter)

	s.step(1, "Book a ride")
	rides := s.number(sqlRides)
	s.tabTo("Book a ride")
	s.press(kb.Enter)
	s.remote.awaitUp("api", "written")
	if now := s.number(sqlRides); now <= rides {
		s.Errorf("there were %g rides, and there are %g", rides, now)
	}
	s.step(2, "Watch it travel")
	s.sees(`/^✓ Ride \d+ of [\d.]+ m is booked\.$/.test(`+tourBefore+`)`,
		`/^It is among the first [\d,]+ records, and every consumer had applied it within .*s\.$/.test(`+tourResult+`)`,
		`document.querySelectorAll('#flow [data-passed]').length === 6`)
	s.tabTo("Next")
	s.press(kb.Enter)

	s.step(3, "Empty Redis")
	s.sees(`!document.querySelector('[data-passed]')`)
	s.readable()
	s.do(chromedp.Focus(chromedp.CSS("#tour")))
	s.tabTo("Empty redis")
	s.press(kb.Enter)
	s.remote.awaitUp("redis", "emptied")
	// The second is said where a slow machine has not told in time how many came back.
	s.sees(`/^(Redis was emptied; [\d,]+ records? came back from the archive|Healed) within .*s\. 0 lost, 0 doubled: the audit agrees\.$/.test(` + tourResult + `)`)
	s.sees(`text('#notes').includes('came back from the archive')`)
	// It goes on by itself while the focus is where the reader was sent.
	s.step(4, "Kill the streamer")
	s.sees(`/^✓ (Redis was emptied|Healed)/.test(` + tourBefore + `)`)
	before := s.pid("streamer")
	s.tabTo("kill -9 streamer")
	s.press(kb.Enter)
	s.sees(`/^Healed within .*s\. [\d,]+ records? waited at the most, 0 lost, 0 doubled: the audit agrees\.$/.test(` + tourResult + `)`)
	if now := s.pid("streamer"); now == before || now == 0 {
		s.Errorf("the streamer is process %d, and was %d", now, before)
	}
	s.tabTo("Next", chromedp.ModifierShift)
	s.press(kb.Enter)
	s.step(5, "Freeze a consumer")
	s.tabTo("Freeze consumer0")
	s.press(kb.Enter)
	s.sees(`text('[data-tour-part="say"]').includes('Now press “Thaw”')`, `/^consumer0 is [\d,]*[1-9][\d,]* records? behind\.$/.test(text('[data-tour-part="live"]'))`,
		`focused().name === 'Thaw consumer0'`)
	s.press(kb.Enter)
	s.sees(`/^Consumer0 was frozen for .*s and [\d,]*[1-9][\d,]* records? behind, and caught up within .*s\. 0 lost, 0 doubled: the audit agrees\.$/.test(` + tourResult + `)`)
	s.tabTo("Next", chromedp.ModifierShift)
	s.press(kb.Enter)
	s.step(6, "Look at the audit")
	s.sees(`/^All 3 totals agree, all through the tour, over [\d,]+ rides\. [\d,]+ failures? in that time, each made good: 0 lost, 0 doubled\.$/.test(`+tourResult+`)`,
		`document.activeElement.id === 'tour'`)
	s.tabTo("Done")
	s.press(kb.Enter)
	s.sees(`document.getElementById('tour').hidden`, `!document.querySelector('[data-tour]')`, `text('#tour-status').startsWith('The tour is over.')`, `document.activeElement.id === 'audit'`)
	s.reload()
	if value[bool](s.page, `document.getElementById('tour').checkVisibility()`) {
		s.Error("the tour is over, and comes again")
	}
}

// skipTour takes it again, leaves it by Escape, and sees that this is remembered.
func (s *screen) skipTour() {
	value[any](s.page, `localStorage.clear()`)
	s.reload()
	s.sees(tourTitle + `.startsWith('New here?')`)
	s.press(kb.Escape)
	s.sees(`document.getElementById('tour').hidden`)
	s.reload()
	if value[bool](s.page, `document.getElementById('tour').checkVisibility()`) {
		s.Error("the tour was skipped, and comes again")
	}
	s.do(chromedp.Focus(chromedp.CSS("#tour-again")))
	s.press(kb.Enter)
	s.step(1, "Book a ride")
	if at := value[string](s.page, `document.activeElement.id`); at != "tour" {
		s.Errorf("the tour begins with the focus on %q", at)
	}
	s.tabTo("Skip the tour")
	s.press(kb.Enter)
	s.sees(`document.getElementById('tour').hidden`, `text('#tour-status').startsWith('The tour is skipped.')`, `focused().name === 'Book a ride'`)
}

// marksOfBefore sees a mark after the page has been opened again, when so much has
// happened since that the notes do not go back so far.
func (s *screen) marksOfBefore() {
	s.scrollTo("#plots")
	killed := float64(time.Now().UnixMilli()) / 1000
	s.remote.act("kill", "api", 0)
	marked := fmt.Sprintf(`hardMarks().some((t) => t > %f && t < %[1]f + 60)`, killed-3) // a pixel is half a second, and it may be killed late
	s.sees(`charts.length >= 5`, marked)
	s.remote.act("failures", "", 0.5)
	await.True(s, "notes of later to be all that there are", func() bool { return s.oldestNote() > killed+1 })
	s.remote.act("failures", "", 0)
	s.sees(`data('#now', 'level') === 'well'`, marked)
	before := value[[]float64](s.page, `hardMarks()`)
	s.reload()
	s.scrollTo("#plots")
	s.sees(`charts.length >= 5`, marked)
	after := value[[]float64](s.page, `hardMarks()`)
	begins := value[float64](s.page, `axis()[0]`) // when the dashboard was started last
	for _, t := range before {
		there := slices.ContainsFunc(after, func(u float64) bool { return math.Abs(t-u) < 6 }) // those beside it may be one with it
		if t > begins+6 && !there {
			s.Errorf("the mark at %f is gone: there were %f, and are %f", t, before, after)
		}
	}
}

// oldestNote is when the oldest note was made that a new viewer gets, in seconds.
func (s *screen) oldestNote() float64 {
	s.Helper()
	answer, err := http.Get(s.url + "/events")
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	_, err = lines.ReadString('\n') // the event's name
	data, err2 := lines.ReadString('\n')
	var hello struct{ Notes []struct{ T float64 } }
	err = errors.Join(err, err2, json.Unmarshal([]byte(strings.TrimPrefix(data, "data: ")), &hello))
	if err != nil || len(hello.Notes) == 0 {
		s.Fatalf("hello is %.100s (%v)", data, err)
	}
	return hello.Notes[0].T / 1000
}
