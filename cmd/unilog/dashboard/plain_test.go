package dashboard

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
)

// Without an audit, without words and without a supervisor, in a database that only
// writers use, it shows the flow of the records and nothing else.
func TestPageOfAnyDatabase(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "log", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log)
	})
	s := &site{t, db, logtest.NewMemory()}
	s.exec(`INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'order', '{}')`)
	s.stream()
	var engine atomic.Value
	engine.Store("Kafka")
	d := s.serve(func(c *Config) {
		c.Audit, c.Words, c.Program = nil, Words{}, ""
		c.Engine = func() string { return engine.Load().(string) }
	})
	_, _, page := d.do(http.MethodGet, "/", "")
	for _, word := range []string{"id=\"audit\"", "Skip to the audit", "Rocket", "rocketrides", "ride", "Jetpack", " verify", "{{", ">Redis<"} {
		if strings.Contains(page, word) {
			t.Errorf("the page has %q in it:\n%s", word, page)
		}
	}
	for _, words := range []string{"<title>unilog, live</title>", "The way of a record", "<h3>Kafka</h3>", "<code>unilog status</code> says the same"} {
		if !strings.Contains(page, words) {
			t.Errorf("the page has no %q in it:\n%s", words, page)
		}
	}
	d.answers(http.StatusNotFound, "", http.MethodPost, "/actions", `{"action":"kill","target":"api"}`)
	v := d.view()
	if v.hello.Control || v.hello.Token != "" || string(v.hello.Audit) != "null" {
		t.Errorf("the hello is %+v", v.hello)
	}
	last := until(v, "sample", func(s sample) bool { return s.Published == 1 })
	if last.Engine != "Kafka" {
		t.Errorf("the log is said to be in %s", last.Engine)
	}
	engine.Store("Redis") // `unilog log switch` moves it
	until(v, "sample", func(s sample) bool { return s.Engine == "Redis" })
	if last.Postgres != "" || last.Consumers == nil || len(last.Consumers) > 0 {
		t.Errorf("the sample is %+v", last)
	}
	if d.hub.audit != nil {
		t.Error("there is an audit")
	}
}

func TestFrameOfAnyDatabase(t *testing.T) {
	t.Parallel()
	v := sceneOf(1000, 1)
	v.words, v.audit = (&Config{}).phrases(), nil
	got := seen(v, 120, 30)
	shows(t, got, "unilog", "All is well: 38 records a second", "written 1,000 38", "committed, not yet in line")
	for _, word := range []string{"AUDIT", "ride", "Rocket", "booked"} {
		if strings.Contains(got, word) {
			t.Errorf("the frame has %q in it:\n%s", word, got)
		}
	}
	v.words = (&Config{Engine: func() string { return "Kafka" }}).phrases()
	v.sample.Redis = "refused"
	shows(t, seen(v, 120, 30), "! Kafka cannot be read; records are written all the same")
	v.sampled(&sample{Engine: "Redis", Redis: "refused"})
	shows(t, seen(v, 120, 30), "! Redis cannot be read; records are written all the same")
}
