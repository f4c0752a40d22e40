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
	s.up.stop()
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
