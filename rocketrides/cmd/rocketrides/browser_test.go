package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog/internal/testenv"
)

// screen is a system that runs, and its dashboard in a browser.
type screen struct {
	*testing.T
	*page
	up      *process
	remote  *remote
	db      *pgxpool.Pool
	env     map[string]string
	data    string // the data directory
	url     string
	browser context.Context
}

// newScreen runs `up` with arguments, and opens the page.
func newScreen(t *testing.T, args ...string) *screen {
	t.Helper()
	browser := newBrowser(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // root's Postgres has to pass
		t.Fatal(err)
	}
	s := &screen{T: t, data: filepath.Join(dir, "data"), browser: browser}
	port := freePort(t)
	s.url = fmt.Sprintf("http://127.0.0.1:%d", port)
	s.up = start(t, nil, append([]string{
		"up", "--data-dir", s.data, fmt.Sprintf("--dashboard-port=%d", port),
		fmt.Sprintf("--port=%d", freePort(t)), "--log-level=error",
	}, args...)...)
	s.up.says("look:")
	go func() { // lest it wait for a reader
		for range s.up.lines {
		}
	}()
	s.remote = newRemote(t, filepath.Join(s.data, "control", "socket"))
	s.awaitProcess("dashboard", func(_ string, pid, _ int) bool { return pid > 0 })
	var err error
	if s.env, err = godotenv.Read(filepath.Join(s.data, "env")); err != nil {
		t.Fatal(err)
	}
	if s.db, err = pgxpool.New(t.Context(), s.env["DATABASE_URL"]); err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, s.db)
	s.remote.awaitLog("dashboard", "dashboard listens")
	s.page = openPage(t, browser, s.url)
	s.sees(`data('body', 'connection') === 'open'`, `data('#now', 'level') === 'well'`)
	return s
}

// part is a subtest, after which all is well again, or the test ends.
func (s *screen) part(name string, do func(*screen)) {
	s.Helper()
	passed := s.T.Run(name, func(t *testing.T) {
		sub, page, remote := *s, *s.page, *s.remote
		page.T, remote.T = t, t
		sub.T, sub.page, sub.remote = t, &page, &remote
		do(&sub)
		sub.sees(`data('#now', 'level') === 'well'`, `data('#audit', 'agrees') === 'true'`)
	})
	if !passed {
		s.T.FailNow()
	}
}

// pid is the process id of what up calls by a name.
func (s *screen) pid(name string) int {
	s.Helper()
	answer, err := s.remote.client.Get("http://up/events")
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	var e event
	if err := json.NewDecoder(answer.Body).Decode(&e); err != nil || e.System == nil {
		s.Fatalf("up begins with %+v (%v)", e, err)
	}
	for _, p := range e.System.Processes {
		if p.Name == name {
			return p.Pid
		}
	}
	s.Fatalf("up runs no %s: %+v", name, e.System)
	return 0
}

// awaitProcess waits until up tells of a process what is wanted.
func (s *screen) awaitProcess(name string, is func(state string, pid, restarts int) bool) {
	s.Helper()
	s.remote.await("the wanted state of "+name, func(e event) bool {
		if e.System == nil {
			return false
		}
		for _, p := range e.System.Processes {
			if p.Name == name && is(p.State, p.Pid, p.Restarts) {
				return true
			}
		}
		return false
	})
}

// awaitSettings waits until up tells of a rate and a share of failures.
func (s *screen) awaitSettings(is func(rate, failures float64) bool) {
	s.Helper()
	s.remote.await("the settings", func(e event) bool { return e.System != nil && is(e.System.Rate, e.System.Failures) })
}

// number is one out of the database.
func (s *screen) number(sql string) (n float64) {
	s.Helper()
	if err := s.db.QueryRow(s.Context(), sql).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

const (
	sqlRides     = `SELECT count(*) FROM rides`
	sqlPublished = `SELECT published_offset FROM unilog.partitions`
	sqlApplied   = `SELECT "offset" FROM unilog.checkpoints WHERE name = 'consumer0'`
	sqlStaged    = `SELECT count(*) FROM unilog.staged_records`
)

// goesOn sees that every figure grows, up to what the database has.
func (s *screen) goesOn() {
	s.Helper()
	for station, sql := range map[string]string{"api": sqlRides, "published": sqlPublished, "consumer0": sqlApplied} {
		station = fmt.Sprintf(`num('[data-station="%s"]')`, station)
		s.sees(fmt.Sprintf(`%s > %g`, station, s.number(sql)))
		shown := value[float64](s.page, station)
		if is := s.number(sql); is < shown {
			s.Errorf("%s shows %g, and the database has %g", station, shown, is)
		}
	}
}

// TestBrowser looks at the dashboard of a whole system as a person does, breaks
// the system with every button, and sees on the page and in the system what
// becomes of it.
func TestBrowser(t *testing.T) {
	t.Parallel()
	s := newScreen(t, "--rate=20")
	s.part("tour", (*screen).tour)
	s.part("tour skipped", (*screen).skipTour)
	s.part("figures", (*screen).figures)
	s.part("sliders", (*screen).sliders)
	for _, name := range []string{"api", "streamer", "consumer1", "simulator", "redis"} {
		s.part("kill "+name, func(s *screen) { s.kill(name) })
	}
	s.part("kill postgres", (*screen).killPostgres)
	s.part("postgres hangs", (*screen).hangPostgres)
	s.part("freeze", (*screen).freeze)
	s.part("empty redis", (*screen).emptyRedis)
	s.part("cut redis", (*screen).cutRedis)
	s.part("stopped", (*screen).stopped)
	s.part("consumers", (*screen).consumers)
	s.part("lose the dashboard", (*screen).loseDashboard)
	s.part("read only", (*screen).readOnly)
	// After all of this:
	s.part("marks of before", (*screen).marksOfBefore)
	s.part("no false alarm", (*screen).noFalseAlarm)
	s.part("disagreement", (*screen).disagreement)
	s.part("motion", (*screen).motion)
	s.part("console and network", func(s *screen) { s.quiet(s.url) })
	s.up.stop()
}

func (s *screen) figures() {
	s.goesOn()
	s.goesOn()
	s.scrollTo("#plots")
	s.sees(`num('[data-rate="api"]') > 0`, `num('[data-station="consumer1"]') > 0`,
		`num('[data-testid="audit-truth"]') > 0`, `text('[data-testid="leader"]').startsWith('leads for')`,
		`!text('[data-plot="latency"] .legend').includes('–')`, `charts.length >= 5`)
	s.scrollTo("#flow")
	s.sees(`dots()`)
}

// sliders raises the load, and lets more batches fail.
func (s *screen) sliders() {
	s.slide("rate", kb.PageUp+kb.PageUp)
	s.awaitSettings(func(rate, _ float64) bool { return rate > 80 })
	s.sees(`num('.slider:has(#slider-rate) output') > 80`)
	s.slide("failures", kb.End)
	s.awaitSettings(func(_, failures float64) bool { return failures == 0.5 })
	s.remote.awaitLog("streamer", "simulated crash after publishing")
	s.remote.awaitLog("consumer0", "simulated crash before saving")
	s.sees(`num('[data-node="streamer"] .trouble b') > 0`, `num('[data-node="consumer0"] .trouble b') > 0`,
		`document.querySelector('#notes [data-source="streamer"]')`, `text('#now').includes('in the last minute, each made good')`)
	s.slide("failures", kb.Home)
	s.awaitSettings(func(_, failures float64) bool { return failures == 0 })
	s.sees(`text('.slider:has(#slider-failures) output') === '0 % of batches'`)
}

func (s *screen) slide(name, keys string) {
	s.Helper()
	s.do(chromedp.Focus(chromedp.CSS("#slider-" + name)))
	s.press(keys)
}

// row is that of a process among the controls.
func row(name string) string { return fmt.Sprintf(`[data-process="%s"]`, name) }

func button(action, target string) string {
	return fmt.Sprintf(`button[data-action="%s"][data-target="%s"]`, action, target)
}

// note says that the page tells of something.
func note(kind, source string) string {
	return fmt.Sprintf(`document.querySelector('#notes [data-kind="%s"][data-source="%s"]')`, kind, source)
}

// kill kills with -9, and sees another process in place of the one that was.
func (s *screen) kill(name string) {
	before := s.pid(name)
	s.click(button("kill", name))
	running := ""
	s.awaitProcess(name, func(state string, pid, restarts int) bool {
		running = fmt.Sprintf("running, %d restarts", restarts) // the tour has killed the streamer, too
		if restarts == 1 {
			running = "running, 1 restart"
		}
		return state == "running" && pid != before && pid > 0 && restarts > 0
	})
	if err := syscall.Kill(before, 0); !errors.Is(err, syscall.ESRCH) {
		s.Errorf("the process %d is still there: %v", before, err)
	}
	s.sees(`text('`+row(name)+` .state') === '`+running+`'`, note("killed", name), note("restart", name))
	s.goesOn()
}

// breakPostgres keeps it from starting until it is mended.
func (s *screen) breakPostgres() (mend func()) {
	s.Helper()
	path := filepath.Join(s.data, "postgres", "data", "postgresql.conf")
	conf, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	write := func(conf []byte) {
		if err := os.WriteFile(path, conf, 0o600); err != nil {
			s.Fatal(err)
		}
	}
	write(append(slices.Clone(conf), "nonsense\n"...))
	return func() { write(conf) }
}

// killPostgres sees that the page tells of it for as long as it is down.
func (s *screen) killPostgres() {
	mend := s.breakPostgres()
	defer mend() // whatever fails
	s.click(button("kill", "postgres"))
	s.sees(`data('#now', 'level') === 'trouble'`, `text('#now').includes('Postgres has died and starts again')`,
		`text('#now').includes('Figures as of')`, `text('[data-testid="badge-postgres"]') === 'restarting'`,
		`text('#connection').startsWith('live, figures as of')`, `data('#audit', 'agrees') === 'unknown'`,
		`text('#verdict').startsWith('Unknown: ')`, `num('[data-station="published"]') > 0`)
	s.readable()
	mend()
	s.awaitProcess("postgres", func(state string, _, restarts int) bool { return state == "running" && restarts > 0 })
	s.sees(note("recovered", "postgres"), `data('#audit', 'agrees') === 'true'`)
	s.goesOn()
}

// hangPostgres keeps its answer back. A lock does that as well as a frozen server.
func (s *screen) hangPostgres() {
	err := pgx.BeginFunc(s.Context(), s.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(s.Context(), `LOCK TABLE unilog.partitions IN ACCESS EXCLUSIVE MODE`)
		if err == nil {
			s.sees(`data('#now', 'level') === 'trouble'`, `text('#now').includes('Postgres cannot be read')`,
				`text('[data-testid="badge-postgres"]') === 'cannot be read'`, `num('[data-station="published"]') > 0`)
		}
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	s.goesOn()
}

func (s *screen) freeze() {
	s.click(button("freeze", "streamer"))
	s.awaitProcess("streamer", func(state string, _, _ int) bool { return state == "frozen" })
	staged, published := s.number(sqlStaged), s.number(sqlPublished)
	s.sees(fmt.Sprintf(`num('[data-station="staged"]') > %g`, staged+50), `text('[data-testid="badge-streamer"]') === 'streamer frozen'`,
		`text('#now').startsWith('!') || text('#now').includes('Streamer is frozen')`, `data('#now', 'level') === 'trouble'`)
	if now := s.number(sqlPublished); now > published+1000 { // a batch may have been on its way
		s.Errorf("the streamer is frozen at %g and goes on to %g", published, now)
	}
	s.click(button("thaw", "streamer"))
	s.awaitProcess("streamer", func(state string, _, _ int) bool { return state == "running" })
	s.sees(note("recovered", "streamer"))
	s.goesOn()
}
