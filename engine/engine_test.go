package engine_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/switchlog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testenv.Database(t, "log", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer)
	})
}

func open(t *testing.T, o engine.Options) switchlog.Engine {
	t.Helper()
	log, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	return log
}

// A user's streamer goes to the new place by itself, and back.
func TestOpenedLogFollows(t *testing.T) {
	t.Parallel()
	db, stream := database(t), testenv.StreamName(t)
	o := engine.Options{URL: testenv.SharedRedis(t), Stream: stream, DB: db}
	s, err := streamer.New(streamer.Config{DB: db, Log: open(t, o), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := await.Receive(t, "the streamer to end", ended); err != nil {
			t.Error(err)
		}
	})
	redis := open(t, engine.Options{URL: o.URL, Stream: stream}) // stays
	other := open(t, o)
	publishes := func(n int64) {
		t.Helper()
		if err := unilog.Stage(t.Context(), db, unilog.Record{Action: "create", Object: "order", Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		await.True(t, "the record to be published", func() bool {
			head, err := other.Head(t.Context(), 0)
			return err == nil && head.Offset == n
		})
	}
	inRedis := func() int64 {
		t.Helper()
		head, err := redis.Head(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return head.Offset
	}
	publishes(1)
	if _, err := switchlog.Move(t.Context(), db, "", "postgres:"); err != nil {
		t.Fatal(err)
	}
	publishes(2)
	if n := inRedis(); n != 1 {
		t.Errorf("the log has moved to Postgres, but the one in Redis is at offset %d", n)
	}
	if _, err := switchlog.Undo(t.Context(), db, ""); err != nil {
		t.Fatal(err)
	}
	publishes(3)
	if n := inRedis(); n != 3 {
		t.Errorf("the log has moved back, but the one in Redis is at offset %d", n)
	}
}

func TestLogThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	for says, o := range map[string]engine.Options{
		"Options.URL is required":                  {},
		"at its URL: ":                             {URL: "unix:///nowhere"},
		"needs UNILOG_TEST_UNSET in the environme": {URL: "redis://:${UNILOG_TEST_UNSET}@localhost:1"},
		"give a pool of it":                        {URL: "postgres:"},
		"write postgres: and no more":              {URL: "postgres://elsewhere"},
	} {
		log, err := engine.Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), says) || log != nil {
			t.Errorf("%+v: %v and %v, want %q and no log", o, err, log, says)
		}
	}
	for _, url := range []string{"unix:///nowhere", "kafka://127.0.0.1:1/unilog"} {
		if log, err := engine.At(t.Context(), engine.Options{URL: url}); err == nil || log != nil {
			t.Errorf("%s: %v, and the log is %v", url, err, log)
		}
	}
	db := database(t)
	if _, err := switchlog.Move(t.Context(), db, "", "unix:///nowhere"); err != nil {
		t.Fatal(err)
	}
	_, err := engine.Open(t.Context(), engine.Options{URL: testenv.SharedRedis(t), DB: db})
	var failed *engine.Error
	if !errors.As(err, &failed) || !failed.Moved || !strings.Contains(err.Error(), "table places") {
		t.Errorf("of a log that has moved where none is it says %v", err)
	}
}

// TestLogsOfTwoSchemas opens two logs of one database, one of which has moved.
func TestLogsOfTwoSchemas(t *testing.T) {
	t.Parallel()
	db, stream := database(t), testenv.StreamName(t)
	const tenant = unilog.Schema("tenant")
	if err := migration.In(tenant).Up(t.Context(), db, migration.Log); err != nil {
		t.Fatal(err)
	}
	if _, err := switchlog.Move(t.Context(), db, tenant, "postgres:"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), `UPDATE tenant.partitions SET next_offset = 8, published_offset = 7`); err != nil {
		t.Fatal(err)
	}
	o := engine.Options{URL: testenv.SharedRedis(t), Stream: stream, DB: db}
	for schema, want := range map[unilog.Schema]int64{"": 0, tenant: 7} {
		o.Schema = schema
		if head, err := open(t, o).Head(t.Context(), 0); err != nil || head.Offset != want {
			t.Errorf("the log in schema %s is at %+v, %v, want offset %d", schema.Name(), head, err, want)
		}
	}
	for _, db := range []*pgxpool.Pool{db, nil} {
		if _, err := engine.Open(t.Context(), engine.Options{URL: o.URL, DB: db, Schema: "No"}); err == nil || !strings.Contains(err.Error(), "the schema's name") {
			t.Errorf("a log in a schema that cannot be: %v", err)
		}
	}
}
