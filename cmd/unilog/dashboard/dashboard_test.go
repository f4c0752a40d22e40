package dashboard

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/redislog"
)

func TestFiguresMoveUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("c")
	d := s.serve()
	v := d.view()
	if v.hello.Control || v.hello.Token != "" || v.hello.Now == 0 || v.hello.Version == "" {
		t.Errorf("hello is %+v", v.hello)
	}
	s.load()
	first := until(v, "sample", func(s sample) bool { return len(s.Consumers) == 1 && s.Consumers[0].Checkpoint > 0 })
	last := until(v, "sample", func(s sample) bool {
		return s.Leader != nil && s.Consumers[0].Checkpoint > first.Consumers[0].Checkpoint && s.Published > first.Published &&
			s.Head != nil && *s.Head > *first.Head && s.Consumers[0].Latency != nil && s.Latency != nil
	})
	if last.Postgres != "" || last.Redis != "" || last.Leader == nil || last.Leader.PID == 0 || last.Epoch == 0 || last.First != 1 ||
		last.Numbered < last.Published || last.Consumers[0].Lag != last.Numbered-last.Consumers[0].Checkpoint ||
		last.Latency.P50 <= 0 || last.Latency.P50 > last.Latency.P99 {
		t.Errorf("the sample is %+v", last)
	}
	before := until(v, "audit", func(a auditFigure) bool { return *a.Count > 0 })
	after := until(v, "audit", func(a auditFigure) bool { return *a.Count > *before.Count })
	if !after.Agrees || after.Checks <= before.Checks || after.Since != before.Since || after.Truth == before.Truth || len(after.Balances) != 1 {
		t.Errorf("the audits are %+v and %+v", before, after)
	}
	// Who comes later knows what was before.
	h := d.view().hello
	var audit auditFigure
	if err := json.Unmarshal(h.Audit, &audit); err != nil || audit.Checks < after.Checks || len(h.History) == 0 || string(h.System) != "null" {
		t.Errorf("hello is %+v, its audit %+v", h, audit)
	}
}

func TestAuditAgreesAllTheTimeUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("c")
	s.load()
	d := patient(Config{DB: s.db, Log: s.log, Audit: ridesAudit})
	var a audits
	await.That(t, "100 audits of rides", func() string {
		a.cancel = func() {}
		if a.over(d.check(t.Context())); a.last.Error != "" || !a.last.Agrees {
			t.Fatalf("the audit is %+v", a.last)
		}
		if a.last.Checks < 100 || a.last.Balances[0].Total == "0" {
			return fmt.Sprintf("%+v", a.last)
		}
		return ""
	})
	s.exec(`UPDATE consumer_states SET total_distance = total_distance + 1`)
	a.cancel = func() {}
	if a.over(d.check(t.Context())); a.last.Agrees || a.last.Since != a.last.Time || a.last.Balances[0].Difference != "-1" {
		t.Errorf("with a damaged state, the audit is %+v", a.last)
	}
}

// While nobody looks, the figures are remembered all the same, in order.
func TestHistoryWithoutViewers(t *testing.T) {
	t.Parallel()
	d := newSite(t).serve()
	var history []json.RawMessage
	await.True(t, "a history", func() bool {
		d.hub.mu.Lock() // a viewer would change the pace
		defer d.hub.mu.Unlock()
		history = d.hub.history
		return len(history) >= 3
	})
	before := int64(0)
	for _, raw := range history {
		var s sample
		if err := json.Unmarshal(raw, &s); err != nil {
			t.Fatal(err)
		}
		if s.Time/1000 <= before {
			t.Errorf("after the sample of second %d comes that of %d", before, s.Time/1000)
		}
		before = s.Time / 1000
	}
}

// A look that takes less than a second keeps none from its place in the history.
func TestHistoryHasNoHole(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_800_000_000_123)
	for took := time.Duration(0); took < time.Second; took += 37 * time.Millisecond {
		began := nextLook(at, idlePause)
		if after := nextLook(began.Add(took), idlePause); after.Unix() != began.Unix()+1 {
			t.Errorf("a look at %v that takes %v is followed by one at %v", began, took, after)
		}
		at = began.Add(took)
	}
}

// ownPostgres is a database on a server of the test's own.
func ownPostgres(t *testing.T) (*pgxpool.Pool, func(), func()) {
	t.Helper()
	server := testenv.Postgres(t)
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, pool)
	if err := migrate(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	return pool, func() { _ = server.Kill() }, func() { server = testenv.Restart(t, server) }
}

func TestPostgresDownAndBack(t *testing.T) {
	t.Parallel()
	pool, kill, restart := ownPostgres(t)
	s := &site{t, pool, logtest.NewMemory()}
	s.run("c")
	s.load()
	d := s.serve()
	v := d.view()
	before := until(v, "sample", func(s sample) bool { return len(s.Consumers) == 1 && s.Consumers[0].Checkpoint > 0 })
	kill()
	down := until(v, "sample", func(s sample) bool { return s.Postgres != "" })
	if down.Published < before.Published || len(down.Consumers) != 1 || down.Redis != "" || down.Epoch == 0 {
		t.Errorf("without Postgres, the figures are %+v", down)
	}
	v.tells("lost", "Postgres cannot be read")
	for range 3 {
		until(v, "sample", func(s sample) bool { return s.Postgres != "" })
	}
	restart()
	until(v, "sample", func(s sample) bool { return s.Postgres == "" && s.Published > down.Published })
	until(v, "audit", func(a auditFigure) bool { return a.Error == "" && a.Time > down.Time && a.Agrees })
	for _, says := range []string{"a server cannot be read: trying again", "a server can be read again"} {
		if n := strings.Count(d.logged.String(), says); n != 1 {
			t.Errorf("it says %d times %q in\n%s", n, says, d.logged)
		}
	}
	if notes := d.view().hello.Notes; !hasNote(notes, "recovered", "Postgres can be read again") {
		t.Errorf("the notes are %+v", notes)
	}
}

func hasNote(notes []note, kind, says string) bool {
	for _, n := range notes {
		if n.Kind == kind && strings.Contains(n.Text, says) {
			return true
		}
	}
	return false
}

func TestRedisEmptiedAndDown(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	log, err := redislog.Open(t.Context(), testenv.PatientRedis(server.URL()), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	s := &site{t, testenv.Database(t, "rides", migrate), log}
	stopStreamer := s.run("c")
	d := s.serve()
	v := d.view()
	s.exec(sqlBook, 5000)
	until(v, "sample", func(s sample) bool { return s.Head != nil && *s.Head == 5000 && s.Consumers[0].Checkpoint == 5000 })
	stopStreamer() // which might be faster than a sample
	client := log.Client()
	s.must(client.Do(await.Context(t, "Redis to be emptied"), client.B().Flushall().Build()).Error())
	v.tells("lost", "The log has lost 5,000 records: it is at offset 0 and was at 5,000.")
	s.stream()
	v.tells("rebuilt", "5,000 records came back from the archive within")

	s.must(server.Kill())
	down := until(v, "sample", func(s sample) bool { return s.Redis != "" })
	if down.Head == nil || *down.Head != 5000 || down.Postgres != "" {
		t.Errorf("without Redis, the figures are %+v", down)
	}
	testenv.Restart(t, server)
	until(v, "sample", func(s sample) bool { return s.Redis == "" && *s.Head == 5000 })
	v.tells("recovered", "Redis can be read again")
}

func TestStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	d := newSite(t).serve()
	v := d.view()
	ended := make(chan error, 1)
	go func() {
		for {
			if _, _, err := v.read(); err != nil {
				ended <- err
				return
			}
		}
	}()
	d.stop()
	if err := await.Receive(t, "the end of the stream", ended); err != io.EOF {
		t.Errorf("the stream was cut off instead of ended: %v", err)
	}
}
