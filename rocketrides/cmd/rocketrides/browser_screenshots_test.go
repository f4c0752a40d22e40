package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	devpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

var (
	screenshots = flag.String("screenshots", "", "a directory to write screenshots of the dashboard to")
	picture     = flag.String("picture", "", "a file to write the README's picture of the dashboard to")
)

// TestScreenshots makes pictures for people to look at: `make screenshots`.
func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no pictures are wanted: `make screenshots` makes them")
	}
	s := newScreen(t, "--rate=200")
	s.part("tour", (*screen).shootTour)
	s.part("states", (*screen).shootStates)
	s.up.stop()
}

// shootTour takes pictures of what a reader sees of it, and of the whole page after it.
func (s *screen) shootTour() {
	shoot := func(state string) { // while the focus is on its button, it does not go on by itself
		s.sees(tourResult + ` !== ''`)
		s.do(chromedp.Focus(chromedp.CSS(`[data-tour-part="next"]`)))
		s.shootWindow(state)
		s.click(`[data-tour-part="next"]`)
	}
	s.shootWindow("tour-0-offer")
	s.click("#tour-again")
	s.sees(tourTitle + `.startsWith('Step 1')`)
	s.shootWindow("tour-1-book")
	s.click(button("write", "api"))
	s.sees(tourTitle + `.startsWith('Step 2')`)
	shoot("tour-2-watch")
	for i, does := range []string{button("empty-redis", "redis"), button("kill", "streamer")} {
		s.sees(fmt.Sprintf(tourTitle+`.startsWith('Step %d')`, i+3))
		s.shootWindow(fmt.Sprintf("tour-%d-before", i+3))
		s.click(does)
		shoot(fmt.Sprintf("tour-%d-done", i+3))
	}
	s.sees(tourTitle + `.startsWith('Step 5')`)
	s.click(button("freeze", "consumer0"))
	s.sees(`text('[data-tour-part="say"]').includes('Now press “Thaw”')`)
	s.shootWindow("tour-5-frozen")
	s.click(button("thaw", "consumer0"))
	shoot("tour-5-done")
	s.sees(tourTitle + `.startsWith('Step 6')`)
	shoot("tour-6-audit")
	s.shoot("tour-after")
}

// shootWindow takes pictures of windows of usual sizes, where the tour's card is.
func (s *screen) shootWindow(state string) {
	for _, size := range [][2]int64{{360, 740}, {1280, 900}} {
		for _, theme := range []string{"light", "dark"} {
			other := map[string]string{"light": "Dark", "dark": "Light"}[theme] // which the button offers
			drawn, same := value[int](s.page, `charts.length`), value[bool](s.page, fmt.Sprintf(`text('#theme') === %q`, other))
			s.emulate("prefers-color-scheme", theme)
			s.sees(fmt.Sprintf(`text('#theme') === %q && (%t || charts.length > %d)`, other, same, drawn))
			s.do(chromedp.EmulateViewport(size[0], size[1]))
			value[any](s.page, `(document.querySelector('.process:has(> .tour)') ?? document.getElementById('tour')).scrollIntoView({ block: 'nearest', behavior: 'instant' })`)
			name := fmt.Sprintf("%s-%d-%s.png", state, size[0], theme)
			s.save(filepath.Join(*screenshots, name), devpage.CaptureScreenshotFormatPng)
		}
	}
	s.do(chromedp.EmulateViewport(1280, 900))
}

func (s *screen) shootStates() {
	s.scrollTo("#plots")
	for seconds := 20; seconds <= 100; seconds += 20 { // so that the plots show something
		s.sees(fmt.Sprintf(`axis().length > %d`, seconds))
	}
	s.shoot("load")
	s.emulate("prefers-color-scheme", "light")
	s.viewport(1280, 0)
	s.save(*picture, devpage.CaptureScreenshotFormatWebp)

	s.remote.act("empty-redis", "redis", 0)
	s.sees(note("rebuilt", "redis"))
	s.shoot("redis-emptied")

	mend := s.breakPostgres()
	s.remote.act("kill", "postgres", 0)
	s.sees(`data('#now', 'level') === 'trouble'`, `data('#audit', 'agrees') === 'unknown'`)
	s.shoot("postgres-down")
	mend()
	s.sees(`data('#now', 'level') === 'well'`)

	s.remote.act("rate", "", 0.1)
	s.remote.act("failures", "", 0)
	s.sees(`text('#now').includes('nobody books just now')`)
	s.shoot("quiet")
}

// shoot takes pictures of a state.
func (s *screen) shoot(state string) {
	for _, width := range []int64{360, 1280, 3840} {
		for _, theme := range []string{"light", "dark"} {
			s.emulate("prefers-color-scheme", theme)
			s.viewport(width, 0)
			name := fmt.Sprintf("%s-%d-%s.png", state, width, theme)
			s.save(filepath.Join(*screenshots, name), devpage.CaptureScreenshotFormatPng)
		}
	}
}

// viewport makes the window as wide as given, and as high, or as high as the page,
// and waits until that is drawn.
func (s *screen) viewport(width, height int64) {
	s.do(chromedp.EmulateViewport(width, 900))
	if height == 0 {
		height = value[int64](s.page, `document.documentElement.scrollHeight`)
	}
	s.do(chromedp.EmulateViewport(width, height))
	s.sees(fmt.Sprintf(`axis().at(-1) > %f`, value[float64](s.page, `axis().at(-1)`)),
		`charts.slice(-5).every((c) => c.width <= innerWidth)`)
}

func (s *screen) save(path string, format devpage.CaptureScreenshotFormat) {
	quality := int64(75)
	shot, err := chromedp.Call(s.ctx, devpage.CaptureScreenshot, devpage.CaptureScreenshotParams{Format: format, Quality: &quality})
	if err != nil {
		s.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.Fatal(err)
	}
	if err := os.WriteFile(path, shot.Data, 0o644); err != nil {
		s.Fatal(err)
	}
}
