package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	devpage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/rocketrides/unilog/internal/await"
)

// pageScript is what tests ask of a page.
//
//go:embed testdata/page.js
var pageScript string

// findBrowser returns the path of a browser that works. Ubuntu has a
// chromium-browser that only says where to get one.
func findBrowser(t *testing.T) string {
	t.Helper()
	names := []string{
		"chromium", "google-chrome", "google-chrome-stable", "chrome", "chromium-browser",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
	}
	if given := os.Getenv("CHROME"); given != "" {
		names = []string{given}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(t.Context(), path, "--version").Run() == nil {
			return path
		}
	}
	const help = "no Chromium or Chrome to look at the dashboard with: `make test` installs one, or name yours in CHROME"
	if ci := os.Getenv("CI"); ci != "" && ci != "false" {
		t.Fatal(help)
	}
	t.Skip(help)
	return ""
}

// page is one that a browser shows.
type page struct {
	*testing.T
	ctx   context.Context
	close context.CancelFunc
	said  *heard
}

// heard is what a page asks for, and what goes wrong in it.
type heard struct {
	mu       sync.Mutex
	requests []string
	policy   string // of the page itself
	troubles []string
}

// newBrowser starts one. The context that it returns is for openPage.
func newBrowser(t *testing.T) context.Context {
	t.Helper()
	// Root, containers and some distributions have no sandbox, and the pages are our own.
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(findBrowser(t)), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 900))
	ctx, cancel := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	t.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// openPage opens a page in a tab of its own.
func openPage(t *testing.T, browser context.Context, url string) *page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	p := &page{t, ctx, cancel, new(heard)}
	// The tab lives as long as this context.
	if err := chromedp.Listen(ctx, p.said.hear); err != nil {
		t.Fatal(err)
	}
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	if err == nil {
		_, err = chromedp.Call(ctx, devpage.AddScriptToEvaluateOnNewDocument,
			devpage.AddScriptToEvaluateOnNewDocumentParams{Source: pageScript})
	}
	if err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(url))
	return p
}

func (h *heard) hear(e any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch e := e.(type) {
	case *network.EventRequestWillBeSent:
		h.requests = append(h.requests, e.Request.URL)
	case *network.EventResponseReceived:
		if e.Type == network.ResourceTypeDocument {
			for name, value := range e.Response.Headers {
				if strings.EqualFold(name, "Content-Security-Policy") {
					h.policy, _ = value.(string)
				}
			}
		}
	case *runtime.EventExceptionThrown:
		h.troubles = append(h.troubles, e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case *runtime.EventConsoleAPICalled:
		h.troubles = append(h.troubles, string(e.Type)+" on the console")
	case *log.EventEntryAdded:
		h.troubles = append(h.troubles, string(e.Entry.Source)+": "+e.Entry.Text+" "+e.Entry.URL)
	}
}

func (p *page) do(action chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, await.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		p.Fatal(err)
	}
}

// value returns that of an expression.
func value[T any](p *page, expression string) T {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, await.Patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return v
}

// sees waits until all conditions are true in the page at once.
func (p *page) sees(conditions ...string) {
	p.Helper()
	const loop = `(async () => { while (!(%s)) await new Promise((next) => setTimeout(next, 20)); return true; })()`
	all := "(" + strings.Join(conditions, ") && (") + ")"
	ctx, cancel := context.WithTimeout(p.ctx, await.Patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf(loop, all), chromedp.EvalAwaitPromise))
	if err == nil {
		return
	}
	for _, c := range conditions {
		if !value[bool](p, `Boolean(`+c+`)`) {
			p.Errorf("the page does not come to show %s", c)
		}
	}
	p.Fatalf("%v; the page shows: %.2000s", err, value[string](p, `document.querySelector('main').innerText.replaceAll(/\s+/g, ' ')`))
}

// click clicks an element that a person could click. The page does it, in one go: a
// mouse of the browser's may miss what moves meanwhile.
func (p *page) click(selector string) {
	p.Helper()
	const script = `(() => {
		const e = document.querySelector(%q);
		if (!e) return 'it is not there';
		if (e.disabled) return 'it is disabled';
		e.scrollIntoView({ block: 'center', behavior: 'instant' });
		const { x, y, width, height } = e.getBoundingClientRect();
		const top = document.elementFromPoint(x + width / 2, y + height / 2);
		if (!e.contains(top)) return 'it is covered by ' + top?.outerHTML.slice(0, 100);
		e.click();
		return '';
	})()`
	await.That(p, "a click on "+selector, func() string { return value[string](p, fmt.Sprintf(script, selector)) })
}

// scrollTo brings into view what is not drawn elsewhere.
func (p *page) scrollTo(selector string) {
	p.Helper()
	p.do(chromedp.ScrollIntoView(chromedp.CSS(selector)))
}

// press presses keys where the focus is.
func (p *page) press(keys string) {
	p.Helper()
	p.do(chromedp.KeyEvent(keys))
}
