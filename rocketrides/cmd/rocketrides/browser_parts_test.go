package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/consumer"
)

// entries is how many the stream has.
func (s *screen) entries() int64 {
	s.Helper()
	option, err := rueidis.ParseURL(patient(s.env["REDIS_URL"]))
	if err != nil {
		s.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	redis, err := rueidis.NewClient(option)
	if err != nil {
		s.Fatal(err)
	}
	defer redis.Close()
	n, err := redis.Do(s.Context(), redis.B().Xlen().Key(s.env["STREAM_NAME"]).Build()).AsInt64()
	if err != nil {
		s.Fatal(err)
	}
	return n
}

func (s *screen) emptyRedis() {
	s.click(button("freeze", "streamer")) // which would be too fast
	s.sees(`text('[data-testid="badge-streamer"]') === 'streamer frozen'`)
	before := s.entries()
	s.click(button("empty-redis", "redis"))
	s.sees(note("lost", "redis"), `text('[data-testid="badge-redis"]') === 'lost its log'`, `text('#now').includes('Redis has lost')`)
	if n := s.entries(); n != 0 || before == 0 {
		s.Fatalf("the stream had %d entries, and has %d", before, n)
	}
	s.click(button("thaw", "streamer"))
	s.remote.awaitLog("streamer", "the log has lost records")
	s.sees(note("rebuilt", "redis"), `texts('#notes [data-kind="rebuilt"]').some((t) => /Redis was emptied; [\d,]+ records? came back/.test(t))`)
	s.goesOn()
}

// cutRedis looks at the page itself meanwhile.
func (s *screen) cutRedis() {
	s.click(button("cut-redis", "redis"))
	s.sees(`data('#now', 'level') === 'trouble'`, `text('#now').includes('Redis is cut off. Rides are booked all the same')`,
		`text('[data-testid="badge-redis"]') === 'cut off'`, `text('`+row("redis")+` .state').startsWith('cut off')`)
	rides, published := s.number(sqlRides), s.number(sqlPublished)
	s.sees(fmt.Sprintf(`num('[data-station="api"]') > %g`, rides))
	s.readable()
	s.fits()
	s.keyboard()
	s.click(button("mend-redis", "redis"))
	s.remote.awaitUp("redis", "restored")
	s.sees(note("recovered", "redis"))
	if now := s.number(sqlRides); now <= rides || published == 0 {
		s.Errorf("with Redis cut off, %g rides were booked, and then %g", rides, now)
	}
	s.goesOn()
}

// stopped pauses a consumer, and then has it halted, too: a paused one does not take that back.
func (s *screen) stopped() {
	const card = `text('[data-node="consumer0"] .parked')`
	must := func(err error) {
		s.Helper()
		if err != nil {
			s.Fatal(err)
		}
	}
	must(consumer.In("").Pause(s.Context(), s.db, "consumer0", "a look"))
	s.sees(card+`.startsWith('paused by ')`, `/Consumer0 is paused by \S+; [\d,]+ records? wait for it/.test(text('#now'))`, note("info", "consumer0"))
	_, err := s.db.Exec(s.Context(), `UPDATE unilog.checkpoints SET trouble = 'it is cursed', troubled_at = now(), rejected = 7 WHERE name = 'consumer0'`)
	must(err)
	s.sees(card + `.endsWith('; has halted at offset 7: it is cursed')`)
	must(consumer.In("").Resume(s.Context(), s.db, "consumer0", ""))
	s.sees(card+` === ''`, `texts('#notes p').some((t) => t === 'consumer0 is no longer halted.')`)
	s.goesOn()
}

func (s *screen) consumers() {
	const there = `SELECT count(*) FROM unilog.checkpoints WHERE name = 'consumer2'`
	s.click(`button[data-action="add-consumer"]`)
	s.sees(`num('[data-station="consumer2"]') > 0`, `document.querySelector('`+row("consumer2")+`')`,
		`data('#audit [data-consumer="consumer2"]', 'agrees') === 'true'`, `text('#verdict') === 'All 4 totals agree.'`)
	if s.pid("consumer2") == 0 || s.number(there) != 1 {
		s.Fatal("consumer2 is shown, and is not there")
	}
	s.click(button("remove-consumer", "consumer2"))
	s.sees(`!document.querySelector('[data-station="consumer2"], #audit [data-consumer="consumer2"], [data-process="consumer2"]')`,
		`text('#verdict') === 'All 3 totals agree.'`)
	if s.number(there) != 0 {
		s.Error("consumer2 is removed, and not forgotten")
	}
}

// loseDashboard kills the dashboard itself. What the page has shown stays.
func (s *screen) loseDashboard() {
	s.scrollTo("#plots") // they are drawn where they are seen
	s.sees(`axis().length > 5`)
	axis := value[[]float64](s.page, `axis()`)
	before := s.pid("dashboard")
	s.click(button("kill", "dashboard"))
	s.sees(`said('This page has lost the dashboard at')`)
	s.awaitProcess("dashboard", func(state string, pid, _ int) bool { return state == "running" && pid != before })
	s.sees(`data('#connection', 'state') === 'open'`)
	s.scrollTo("#plots")
	s.sees(fmt.Sprintf(`axis().at(-1) > %f + 1`, axis[len(axis)-1]))
	after := value[[]float64](s.page, `axis()`)
	for len(axis) > 1 && axis[0] < after[0] { // it goes back for so long only
		axis = axis[1:]
	}
	for i, at := range after {
		switch {
		case i < len(axis)-1 && at != axis[i]:
			s.Fatalf("of the time axis, %v was %f and is %f", i, axis[i], at)
		case i > 0 && at <= after[i-1]:
			s.Fatalf("on the time axis, %f follows %f", at, after[i-1])
		}
	}
	s.goesOn()
}

// readOnly looks at dashboards that have nothing to control, in a tab of their own.
func (s *screen) readOnly() {
	env := []string{"DATABASE_URL=" + s.env["DATABASE_URL"], "REDIS_URL=" + s.env["REDIS_URL"], "STREAM_NAME=" + s.env["STREAM_NAME"]}
	under := append(env, "ROCKETRIDES_CONTROL="+s.remote.socket)
	for _, c := range []struct {
		env, args []string
		system    bool
	}{{under, []string{"--read-only"}, true}, {env, nil, false}} {
		port := freePort(s.T)
		d := start(s.T, c.env, append([]string{"dashboard", fmt.Sprintf("--port=%d", port)}, c.args...)...)
		d.says("dashboard listens")
		url := fmt.Sprintf("http://127.0.0.1:%d", port)
		p := openPage(s.T, s.browser, url)
		p.sees(`data('#now', 'level') === 'well'`, fmt.Sprintf(`num('[data-station="published"]') > %g`, s.number(sqlPublished)),
			`document.getElementById('controls').hidden`, `stops().length === 3`) // the theme, the audit, and what happened
		answer, err := http.Post(url+"/actions", "application/json", strings.NewReader(`{"action":"kill","target":"api"}`))
		if err != nil {
			s.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusNotFound {
			s.Errorf("dashboard %v answers %s to an action", c.args, answer.Status)
		}
		p.quiet(url)
		p.close()
		d.stop()
	}
}

// noFalseAlarm sees that all the time that the page has looked, under load and
// whatever failed, it has never shown a disagreement.
func (s *screen) noFalseAlarm() {
	s.sees(`seen.agrees.true >= 200`)
	for _, wrong := range []string{`seen.agrees.false`, `seen.now.wrong`} {
		if n := value[float64](s.page, wrong+` ?? 0`); n > 0 {
			s.Errorf("%s %g times: %s", wrong, n, value[string](s.page, `JSON.stringify(seen)`))
		}
	}
}

func (s *screen) disagreement() {
	change := func(by string) {
		s.Helper()
		if _, err := s.db.Exec(s.Context(), `UPDATE consumer_states SET total_distance = total_distance + $1 WHERE name = 'consumer1'`, by); err != nil {
			s.Fatal(err)
		}
	}
	change("1234.5")
	s.sees(`data('#audit', 'agrees') === 'false'`, `text('#verdict') === 'The totals DO NOT agree.'`,
		`text('#now').includes('The totals do not agree. That must never happen')`, `data('#now', 'level') === 'wrong'`,
		`/^off by −?1,234\.50* m$/.test(text('#audit [data-consumer="consumer1"] .difference'))`,
		`text('#audit [data-consumer="consumer1"] .sign') === '≠'`, `text('#audit [data-consumer="consumer0"] .sign') === '='`,
		note("lost", "consumer1"))
	s.readable()
	change("-1234.5")
}

// quiet sees that nothing has gone wrong in the page, and that it has asked nobody
// else for anything.
func (p *page) quiet(url string) {
	p.Helper()
	p.said.mu.Lock()
	defer p.said.mu.Unlock()
	if p.said.policy != "default-src 'self'" {
		p.Errorf("the page's Content-Security-Policy is %q", p.said.policy)
	}
	if len(p.said.requests) < 10 {
		p.Errorf("the page has asked for no more than %q", p.said.requests)
	}
	for _, request := range p.said.requests {
		if !strings.HasPrefix(request, url+"/") {
			p.Errorf("the page asks for %s", request)
		}
	}
	for _, trouble := range p.said.troubles {
		// What it cannot reach is on a browser's console.
		if !strings.HasPrefix(trouble, "network: ") || !strings.HasSuffix(trouble, "/events") && !strings.HasSuffix(trouble, "/actions") {
			p.Errorf("in the browser's console: %s", trouble)
		}
	}
}

// readable sees that all text stands out, in both themes.
func (s *screen) readable() {
	s.Helper()
	for range 2 {
		found := value[struct {
			Texts int
			Low   []string
		}](s.page, `contrast()`)
		if found.Texts < 100 || len(found.Low) > 0 {
			s.Errorf("of %d texts in the %s theme, too little contrast:\n%s",
				found.Texts, value[string](s.page, `getComputedStyle(document.body).backgroundColor`), strings.Join(found.Low, "\n"))
		}
		theme := value[string](s.page, `text('#theme')`)
		s.click("#theme")
		s.sees(fmt.Sprintf(`text('#theme') !== %q`, theme))
	}
}

// fits sees that nothing is wider than the window.
func (s *screen) fits() {
	s.Helper()
	for _, width := range []int64{320, 360, 768, 1280, 3840} {
		s.do(chromedp.EmulateViewport(width, 900))
		for _, amount := range []string{"", "199,999,999.99"} {
			if wide := value[[]string](s.page, fmt.Sprintf(`overflow(%q)`, amount)); len(wide) > 0 {
				s.Errorf("with %d pixels, the page with amounts such as %q overflows: %q", width, amount, wide)
			}
		}
	}
	s.do(chromedp.EmulateViewport(1280, 900))
}

// keyboard goes through the page by Tab.
func (s *screen) keyboard() {
	s.Helper()
	stops := value[[]string](s.page, `stops()`)
	s.do(chromedp.Focus(chromedp.CSS("#tour-again")))
	s.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)))
	for i, stop := range stops {
		if i > 0 {
			s.press(kb.Tab)
		}
		focus := value[struct {
			Name string
			Seen bool
		}](s.page, `focused()`)
		if focus.Name != stop || !focus.Seen {
			s.Fatalf("stop %d is %+v, want %q of\n%q", i, focus, stop, stops)
		}
	}
	if len(stops) < 24 {
		s.Errorf("only %q can be reached", stops)
	}
}

// motion sees that nothing moves where that is not wanted.
func (s *screen) motion() {
	s.scrollTo("#flow") // where nobody looks, nothing is drawn
	s.sees(`dots()`)
	s.emulate("prefers-reduced-motion", "reduce")
	s.sees(`!dots()`)
	s.goesOn()
	if value[bool](s.page, `dots() || document.getAnimations().length > 0`) {
		s.Error("things move")
	}
	s.emulate("prefers-reduced-motion", "")
	s.sees(`dots()`)
}

func (p *page) emulate(feature, value string) {
	p.Helper()
	_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: feature, Value: value}},
	})
	if err != nil {
		p.Fatal(err)
	}
}
