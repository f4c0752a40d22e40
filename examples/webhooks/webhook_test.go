package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

var quiet = slog.New(slog.DiscardHandler)

func setup(t *testing.T) (*pgxpool.Pool, unilog.Log) {
	t.Helper()
	return testenv.Database(t, "orders", func(ctx context.Context, pool *pgxpool.Pool) error {
		if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `CREATE TABLE orders (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, amount numeric(20, 2) NOT NULL)`)
		return err
	}), logtest.NewMemory()
}

// order takes orders as the api of a service does.
func order(t *testing.T, db *pgxpool.Pool, n int) {
	t.Helper()
	for range n {
		err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			var id string
			var data json.RawMessage
			err := tx.QueryRow(t.Context(), `
				INSERT INTO orders (amount) SELECT 12.5 + count(*) FROM orders
				RETURNING id::text, to_jsonb(orders)`).Scan(&id, &data)
			if err != nil {
				return err
			}
			return unilog.Stage(t.Context(), tx, unilog.Record{Action: "create", Object: "order", Key: id, Data: data})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// crashing fails at random between a delivery and its checkpoint.
type crashing struct {
	deliverer.Checkpoints
	fail func(context.Context, []unilog.Entry) error
}

func (c crashing) Save(ctx context.Context, key deliverer.CheckpointKey, from, to unilog.Cursor) error {
	if err := c.fail(ctx, nil); err != nil {
		return err
	}
	return c.Checkpoints.Save(ctx, key, from, to)
}

// TestReceiverAgreesWithTheDatabase takes orders while deliverers crash between
// delivery and checkpoint and are replaced, and the receiver fails and is killed.
func TestReceiverAgreesWithTheDatabase(t *testing.T) {
	t.Parallel()
	db, log := setup(t)
	outside := newReceiver(t)
	hook, err := newWebhook("http://"+outside.addr+"/hook", secret)
	if err != nil {
		t.Fatal(err)
	}
	defer hook.client.CloseIdleConnections()
	var streaming errgroup.Group
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	streamer, err := streamer.New(streamer.Config{DB: db, Log: log, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	streaming.Go(func() error { return streamer.Run(ctx) })
	const rounds, each = 4, 25
	for round := range rounds {
		cfg := config(hook, db, log)
		cfg.Logger = quiet
		cfg.Checkpoints = crashing{cfg.Checkpoints, unilog.SimulateFailures(0.2, uint64(round))}
		deliverer, err := deliverer.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		running, end := context.WithCancel(ctx)
		var delivering errgroup.Group
		delivering.Go(func() error { return deliverer.Run(running) })
		order(t, db, each/2)
		await.True(t, "the first orders of the round", func() bool { return outside.count() > round*each })
		outside.kill()
		order(t, db, each-each/2)
		await.True(t, "the deliverer to notice", func() bool {
			err := deliverer.Ready()
			return err != nil && strings.Contains(err.Error(), "post the webhook")
		})
		outside.start()
		await.True(t, "the orders that follow", func() bool { return outside.count() > round*each+each/2 })
		if round == rounds-1 {
			await.Equal(t, "orders that have arrived", rounds*each, outside.count)
		}
		end()
		if err := delivering.Wait(); err != nil {
			t.Error(err)
		}
	}
	stop()
	if err := streaming.Wait(); err != nil {
		t.Error(err)
	}

	rows, err := db.Query(t.Context(), `SELECT id::text, amount::text FROM orders`)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	var id, amount string
	if _, err := pgx.ForEachRow(rows, []any{&id, &amount}, func() error { want[id] = amount; return nil }); err != nil {
		t.Fatal(err)
	}
	outside.mu.Lock()
	defer outside.mu.Unlock()
	if !maps.Equal(outside.effects, want) || len(want) != rounds*each {
		t.Errorf("the receiver has %d orders of %d, or others", len(outside.effects), len(want))
	}
	if outside.repeated == 0 || outside.failed == 0 {
		t.Errorf("%d repetitions and %d failures, want some of each", outside.repeated, outside.failed)
	}
	if n := len(outside.connections); n > rounds*each/2 {
		t.Errorf("%d connections for %d requests or more", n, rounds*each)
	}
}

// TestAnswers sees what becomes of a record after each sort of answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		code int
		want string // delivered, tried again or halted
	}{
		{200, "delivered"},
		{204, "delivered"},
		{302, "halted"},
		{400, "halted"},
		{404, "halted"},
		{410, "halted"},
		{408, "tried again"},
		{429, "tried again"},
		{500, "tried again"},
		{503, "tried again"},
	} {
		t.Run(strconv.Itoa(test.code), func(t *testing.T) {
			t.Parallel()
			db, log := setup(t)
			var mu sync.Mutex
			var at []time.Time
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				body, _ := io.ReadAll(q.Body)
				if why := verify(q.Header, body, time.Now()); why != "" || q.URL.Path != "/hook" {
					t.Errorf("%s: %s", q.URL, why)
				}
				mu.Lock()
				defer mu.Unlock()
				if at = append(at, time.Now()); len(at) == 1 {
					w.Header().Set("Location", "/elsewhere")
					if test.code == http.StatusTooManyRequests {
						w.Header().Set("Retry-After", "1")
					}
					w.WriteHeader(test.code)
				}
			}))
			defer server.Close()
			hook, err := newWebhook(server.URL+"/hook", secret)
			if err != nil {
				t.Fatal(err)
			}
			defer hook.client.CloseIdleConnections()
			streamer, err := streamer.New(streamer.Config{DB: db, Log: log, Logger: quiet})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(await.Context(t, "a delivery or a halt"))
			defer stop()
			cfg := config(hook, db, log)
			cfg.Logger = quiet
			cfg.Observer.Committed = func([]unilog.Entry, time.Duration) { stop() }
			deliverer, err := deliverer.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var streaming errgroup.Group
			streaming.Go(func() error { return streamer.Run(ctx) })
			order(t, db, 1)
			err = deliverer.Run(ctx)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				t.Fatalf("%v, after %d requests: %v", context.Cause(ctx), len(at), deliverer.Ready())
			}
			stop()
			if err := streaming.Wait(); err != nil {
				t.Error(err)
			}
			got := "delivered"
			var rejected *unilog.RejectedError
			switch {
			case errors.As(err, &rejected):
				got = "halted"
			case len(at) == 2:
				got = "tried again"
			}
			if got != test.want {
				t.Errorf("%s after %d requests, with %v; want %s", got, len(at), err, test.want)
			}
			if test.code == http.StatusTooManyRequests && len(at) == 2 && at[1].Sub(at[0]) < time.Second {
				t.Errorf("tried again after %v, want a second at least", at[1].Sub(at[0]))
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              -1,
		"soon":                          -1,
		"-1":                            -1,
		"99999999999999999999":          -1,
		"0":                             0,
		"120":                           2 * time.Minute,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
	} {
		got, ok := retryAfter(header, now)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %v, want %v", header, got, want)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, secret, want string }{
		{"ftp://a/", secret, "WEBHOOK_URL"},
		{"/hook", secret, "WEBHOOK_URL"},
		{"http://a/", "whsec_c2hvcnQ=", "WEBHOOK_SECRET"},
		{"http://a/", "whsec_?", "WEBHOOK_SECRET"},
	} {
		if _, err := newWebhook(test.url, test.secret); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %s: %v", test.url, test.secret, err)
		}
	}
}

// TestSignature has the example of the specification's own libraries.
func TestSignature(t *testing.T) {
	t.Parallel()
	hook, err := newWebhook("http://a/", secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if got := base64.StdEncoding.EncodeToString(mac); got != "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("the signature is %s", got)
	}
}
