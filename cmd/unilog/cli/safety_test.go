package cli

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/switchlog"
)

// said is a log that others write to meanwhile.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) times(words string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.text.String(), words)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// safeDatabase has settings that a test may change by the table settings, on a server
// that is not safe itself.
func safeDatabase(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := database(t)
	exec1(t, pool, `CREATE SCHEMA disguise;
		CREATE TABLE disguise.settings (name text PRIMARY KEY, value text NOT NULL);
		INSERT INTO disguise.settings VALUES ('fsync', 'on'), ('full_page_writes', 'on');
		CREATE FUNCTION disguise.current_setting(text) RETURNS text LANGUAGE sql AS
			$$ SELECT coalesce((SELECT value FROM disguise.settings WHERE name = $1), pg_catalog.current_setting($1)) $$;
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = disguise, pg_catalog, public', current_database()); END $$`)
	pool.Reset() // settings are those of new sessions
	return pool
}

// watched runs what looks at the settings, often.
func watched(t *testing.T, pool *pgxpool.Pool, stream switchlog.Engine) (*Safety, *said) {
	t.Helper()
	said := new(said)
	p := &Program{Name: "unilog", ConnectTimeout: await.Patience}
	safety, err := new(SafetyFlags).Examine(t.Context(), slog.New(slog.NewTextHandler(said, nil)), p, doctor.Streamer, pool, "", stream)
	if err != nil {
		t.Fatal(err)
	}
	safety.pause = time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- safety.Beside(func(context.Context) error { <-ctx.Done(); return nil })(ctx)
	}()
	t.Cleanup(func() {
		stop()
		if err := await.Receive(t, "the end", ended); err != nil {
			t.Error(err)
		}
	})
	return safety, said
}

// becomes changes a setting and waits until the process is ready, or says why it is not.
func becomes(t *testing.T, safety *Safety, says string, change func()) {
	t.Helper()
	change()
	await.That(t, "the process to say: "+says, func() string {
		switch err := safety.Ready(); {
		case says == "" && err == nil, says != "" && err != nil && strings.Contains(err.Error(), says):
			return ""
		case err != nil:
			return err.Error()
		}
		return "it is ready"
	})
}

// TestSettingsChangeWhileItRuns makes servers unsafe under a process, and safe again.
func TestSettingsChangeWhileItRuns(t *testing.T) {
	t.Parallel()
	pool := safeDatabase(t)
	stream, err := redislog.Open(t.Context(), testenv.PatientRedis(testenv.Redis(t, "--maxmemory", "100mb").URL()), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stream.Close)
	safety, said := watched(t, pool, stream)
	inPostgres := func(name string) func(value string) {
		return func(value string) {
			exec1(t, pool, `UPDATE disguise.settings SET value = '`+value+`' WHERE name = '`+name+`'`)
		}
	}
	inRedis := func(name string) func(value string) {
		return func(value string) {
			c := stream.Client()
			if err := c.Do(t.Context(), c.B().Arbitrary("CONFIG", "SET", name, value).Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name, bad, good string
		set             func(value string)
	}{
		{"fsync", "off", "on", inPostgres("fsync")},
		{"full_page_writes", "off", "on", inPostgres("full_page_writes")},
		{"maxmemory-policy", "allkeys-lru", "noeviction", inRedis("maxmemory-policy")},
	} {
		becomes(t, safety, c.name+" is "+c.bad, func() { c.set(c.bad) })
		becomes(t, safety, "", func() { c.set(c.good) })
		for _, words := range []string{"unsafe since this process has started: " + c.name, "mended: " + c.name + " is " + c.good} {
			if n := said.times(words); n != 1 {
				t.Errorf("it said %d times %q", n, words)
			}
		}
	}
	// No promise depends on this one.
	inRedis("appendonly")("no")
	await.True(t, "it to be said", func() bool { return said.times("advice since this process has started: appendonly is no") == 1 })
	if err := safety.Ready(); err != nil {
		t.Error(err)
	}
	// A server that does not answer says nothing of its settings.
	inRedis("maxmemory-policy")("allkeys-lru")
	becomes(t, safety, "maxmemory-policy", func() {})
	safety.note(nil, context.DeadlineExceeded)
	if err := safety.Ready(); err == nil {
		t.Error("ready, as a server does not answer")
	}
	safety.allowed = true
	if err := safety.Ready(); err != nil {
		t.Errorf("though it is allowed: %v", err)
	}
}
