package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	testenv.Main(m)
}

// world is Rocket Rides' database and log, and the receipts' own database.
type world struct {
	*testing.T
	source, own *pgxpool.Pool
	log         *redislog.Log
	service     service
	dir         string
}

// setup lets the service log in as a user that may not enter the source.
func setup(t *testing.T) *world {
	ctx := t.Context()
	user := "receipts_" + strings.ToLower(rand.Text()[:8])
	adminURL, _, err := testenv.URLs()
	must(t, err)
	admin, err := pgx.Connect(ctx, adminURL)
	must(t, err)
	_, err = admin.Exec(ctx, `CREATE USER `+user)
	must(t, err)
	t.Cleanup(func() { // when its tables are gone
		_, err := admin.Exec(context.Background(), `DROP USER `+user)
		must(t, errors.Join(err, admin.Close(context.Background())))
	})
	w := &world{
		T: t, dir: t.TempDir(),
		source: testenv.Database(t, "source", func(ctx context.Context, pool *pgxpool.Pool) error {
			rides := migration.Set{Name: "rides", FS: os.DirFS("../../rocketrides/internal/rides/migrations")}
			return migration.Up(ctx, pool, migration.Log, migration.Consumer, rides)
		}),
		own: testenv.Database(t, "own", func(context.Context, *pgxpool.Pool) error { return nil }),
	}
	w.exec(w.source, `REVOKE CONNECT ON DATABASE `+w.source.Config().ConnConfig.Database+` FROM PUBLIC`)
	w.exec(w.own, `GRANT CREATE ON SCHEMA public TO `+user)
	w.exec(w.own, `GRANT CREATE ON DATABASE `+w.own.Config().ConnConfig.Database+` TO `+user)
	redis := testenv.Redis(t)
	w.service = service{as(t, w.own, user), testenv.PatientRedis(redis.URL()), testenv.StreamName(t), consumer.Hooks{}}
	w.log, err = redislog.Open(ctx, w.service.redisURL, w.service.stream)
	must(t, err)
	t.Cleanup(w.log.Close)

	var refused *pgconn.PgError
	if _, err := pgx.Connect(ctx, as(t, w.source, user)); !errors.As(err, &refused) || refused.Code != "42501" {
		t.Fatalf("at the source's door the service hears %v, want that it has no right to enter", err)
	}
	return w
}

// as returns the URL of a pool's database for another user.
func as(t *testing.T, pool *pgxpool.Pool, user string) string {
	u, err := url.Parse(pool.Config().ConnString())
	must(t, err)
	u.User = url.User(user)
	return u.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) exec(db *pgxpool.Pool, sql string, args ...any) {
	w.Helper()
	_, err := db.Exec(w.Context(), sql, args...)
	must(w.T, err)
}

// book books rides as the api does.
func (w *world) book(n int) {
	w.Helper()
	for range n {
		must(w.T, pgx.BeginFunc(w.Context(), w.source, func(tx pgx.Tx) error {
			var id int64
			var distance string
			err := tx.QueryRow(w.Context(), `
				INSERT INTO rides (distance) SELECT 1234.5678 + count(*) / 10.0 FROM rides
				RETURNING id, distance::text`).Scan(&id, &distance)
			if err != nil {
				return err
			}
			return unilog.Stage(w.Context(), tx, unilog.Record{
				Action: "create", Object: "ride", Key: fmt.Sprint(id),
				Data: json.RawMessage(fmt.Sprintf(`{"id":%d,"distance":%s}`, id, distance)),
			})
		}))
	}
}

func (w *world) streamer(hooks streamer.Hooks) *streamer.Streamer {
	s, err := streamer.New(streamer.Config{DB: w.source, Log: w.log, Hooks: hooks})
	must(w.T, err)
	return s
}

// rows returns a query's rows as text.
func (w *world) rows(db *pgxpool.Pool, sql string) string {
	w.Helper()
	var text string
	must(w.T, db.QueryRow(w.Context(), `SELECT coalesce(string_agg(r::text, E'\n' ORDER BY r.id), '') FROM (`+sql+`) AS r`).Scan(&text))
	return text
}

// agree says whether receipts and rides are the same, each once.
func (w *world) agree() bool {
	return w.receipts() > 0 && w.rows(w.own, `SELECT ride_id AS id, distance, cents FROM receipts`) ==
		w.rows(w.source, `SELECT id, distance, distance * 1.5 AS cents FROM rides`)
}

// receipts counts them; there are none before the service has made the table.
func (w *world) receipts() (n int) {
	_ = w.own.QueryRow(w.Context(), `SELECT count(*) FROM receipts`).Scan(&n)
	return n
}

// eventually waits until something holds, as long as ctx lives.
func (w *world) eventually(ctx context.Context, what string, holds func() bool) {
	w.Helper()
	await.True(w, what, func() bool {
		if ctx.Err() != nil {
			w.Fatal(context.Cause(ctx))
		}
		return holds()
	})
}

// TestReceipts runs everything with failures, and Redis loses all it has.
func TestReceipts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var failures atomic.Int32
	fail := unilog.SimulateFailures(0.5, 1)
	w.service.hooks.BeforeCommit = func(ctx context.Context, entries []unilog.Entry) error {
		err := fail(ctx, entries)
		if err != nil {
			failures.Add(1)
		}
		return err
	}
	s := w.streamer(streamer.Hooks{AfterAppend: unilog.SimulateFailures(0.3, 2)})
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return s.Run(ctx) })
	running.Go(func() error { return w.service.run(ctx) })

	w.book(30)
	w.eventually(ctx, "the first receipts", func() bool { return w.receipts() > 0 })
	must(t, w.log.Client().Do(ctx, w.log.Client().B().Flushall().Build()).Error())
	w.book(30)
	w.eventually(ctx, "receipts and rides to agree", w.agree)
	stop()
	must(t, running.Wait())
	if failures.Load() == 0 {
		t.Error("the service never failed")
	}
}

// TestAfterAGap does what the service's error and README.md say.
func TestAfterAGap(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.book(10)
	w.stream(10)
	w.serve()
	w.book(90)
	w.stream(100)
	redis := w.log.Client()
	must(t, redis.Do(t.Context(), redis.B().Xtrim().Key(w.service.stream).Maxlen().Threshold("5").Build()).Error())
	w.book(3) // which the snapshot must leave to the log
	const want = "the log has dropped the records 11 to 95 of partition 0 before they were read: "
	if err := w.service.run(await.Context(t, "the service to halt")); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("the service says %v, want %s…", err, want)
	}
	w.psql(w.source.Config().ConnString(), "snapshot.sql")
	w.psql(w.service.databaseURL, "after_a_gap.sql")
	if n := w.receipts(); n != 100 {
		t.Errorf("%d receipts after the snapshot, want 100", n)
	}
	w.stream(103)
	w.serve()
}

// published is the log's head.
func (w *world) published() int64 {
	head, err := w.log.Head(w.Context(), 0)
	must(w.T, err)
	return head.Offset
}

// stream runs a streamer until the log has so many records.
func (w *world) stream(records int64) {
	w.Helper()
	w.until(w.streamer(streamer.Hooks{}).Run, fmt.Sprint(records, " records"), func() bool { return w.published() == records })
}

// serve runs the service until receipts and rides agree.
func (w *world) serve() {
	w.Helper()
	w.until(w.service.run, "receipts and rides to agree", w.agree)
}

func (w *world) until(run func(context.Context) error, what string, holds func() bool) {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return run(ctx) })
	w.eventually(ctx, what, holds)
	stop()
	must(w.T, running.Wait())
}

// psql runs a file in the directory that is the test's.
func (w *world) psql(url, file string) {
	w.Helper()
	path, err := filepath.Abs(file)
	must(w.T, err)
	cmd := exec.CommandContext(w.Context(), "psql", url, "-X", "-v", "ON_ERROR_STOP=1", "-f", path)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("%s: %v\n%s", file, err, out)
	}
}
