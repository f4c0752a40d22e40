package metrics_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a database and a log of a test's own, and what is counted of them.
type world struct {
	*testing.T
	near, db *pgxpool.Pool // db is near, or the way through a proxy
	log      unilog.Log
	memory   *logtest.Memory // the log, unless it is in Redis
	reg      *prometheus.Registry
	url      string
	slow     bool // a call took longer than it may, and was made again
}

// counted runs a test of exact counts anew if a call in it took too long on a slow machine,
// which counts as well.
func counted(t *testing.T, count func(w *world)) {
	t.Helper()
	await.That(t, "all calls to be in time", func() string {
		w := setup(t)
		if count(w); w.slow {
			return "one was not"
		}
		return ""
	})
}

func setup(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, memory: logtest.NewMemory(), reg: prometheus.NewRegistry()}
	w.log = w.memory
	w.near = testenv.Database(t, "log", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer)
	})
	w.db = w.near
	server := httptest.NewServer(promhttp.HandlerFor(w.reg, promhttp.HandlerOpts{}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

// network is a world whose log is in Redis, and whose servers are reached through
// proxies.
type network struct {
	*world
	postgres, redis *proxy.Proxy
	stream          string
	client          rueidis.Client
}

func setupNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{world: setup(t), stream: testenv.StreamName(t)}
	var err error
	n.postgres, err = proxy.For(n.near.Config().ConnString())
	n.must(err)
	t.Cleanup(n.postgres.Close)
	n.redis, err = proxy.For(testenv.SharedRedis(t))
	n.must(err)
	t.Cleanup(n.redis.Close)
	n.db, err = pgxpool.New(t.Context(), n.postgres.URL())
	n.must(err)
	testenv.ClosePool(t, n.db)
	log, err := redislog.Open(t.Context(), testenv.PatientRedis(n.redis.URL()), n.stream)
	n.must(err)
	t.Cleanup(log.Close)
	n.log, n.memory, n.client = log, nil, log.Client()
	t.Cleanup(func() { // so that closing has nothing to wait for
		n.postgres.Cut()
		n.redis.Cut()
	})
	return n
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// command runs a Redis command on a key.
func (n *network) command(name, key string, args ...string) {
	n.Helper()
	n.must(n.client.Do(n.Context(), n.client.B().Arbitrary(name, key).Args(args...).Build()).Error())
}

// stage commits records with these data.
func (w *world) stage(data ...string) {
	w.Helper()
	w.must(pgx.BeginFunc(w.Context(), w.near, func(tx pgx.Tx) error {
		for _, d := range data {
			if err := unilog.Stage(w.Context(), tx, unilog.Record{Action: "note", Object: "text", Data: json.RawMessage(d)}); err != nil {
				return err
			}
		}
		return nil
	}))
}

var quiet = slog.New(slog.DiscardHandler)

func (w *world) streamer(change func(*streamer.Config)) *streamer.Streamer {
	w.Helper()
	cfg := streamer.Config{DB: w.db, Log: w.log, Logger: quiet, SessionTimeout: await.Patience}
	change(&cfg)
	s, err := streamer.New(cfg)
	w.must(err)
	return s
}

// consumer parks poison.
func (w *world) consumer(change func(*consumer.Config)) *consumer.Consumer {
	w.Helper()
	cfg := consumer.Config{
		Name: "c", DB: w.db, Archive: w.db, Log: w.log, Logger: quiet, ParkRejected: true,
		Handler: consumer.Each(func(_ context.Context, _ pgx.Tx, e unilog.Entry) error {
			if string(e.Data) == `"poison"` {
				return errors.New("poison")
			}
			return nil
		}),
	}
	change(&cfg)
	c, err := consumer.New(cfg)
	w.must(err)
	return c
}

// tooSlow says of an error that it tells of nothing but a slow machine.
func (w *world) tooSlow(err error) bool {
	is := errors.Is(err, context.DeadlineExceeded) || w.slow && errors.Is(err, unilog.ErrStandby) // by its own last session
	w.slow = w.slow || is
	return is
}

// drain calls RunOnce until it finds nothing to do, through simulated failures.
func (w *world) drain(runOnce func(context.Context) (int, error)) {
	w.Helper()
	for n := 1; n > 0; {
		var err error
		n, err = runOnce(w.Context())
		if errors.Is(err, unilog.ErrSimulated) || w.tooSlow(err) {
			n = 1
		} else {
			w.must(err)
		}
	}
}

// run runs a streamer until stop is called, or the test ends.
func (w *world) run(s *streamer.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := await.Receive(w, "the streamer to end", ended); err != nil {
			w.Errorf("the streamer ends with %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

// awaitScrape waits until a scrape has these samples, and returns all that it has.
func (w *world) awaitScrape(want map[string]float64) (got map[string]float64) {
	w.Helper()
	await.That(w, fmt.Sprintf("a scrape with %v", want), func() string {
		_, got = testenv.Scrape(w, w.url)
		instead := ""
		for name, value := range want {
			if v, ok := got[name]; !ok || v != value {
				instead += fmt.Sprintf("%s is %v (%v) ", name, v, ok)
			}
		}
		return instead
	})
	return got
}

// want compares samples of a scrape.
func (w *world) want(want map[string]float64) {
	w.Helper()
	if w.slow { // see counted
		return
	}
	_, got := testenv.Scrape(w, w.url)
	for name, value := range want {
		if v, ok := got[name]; !ok || v != value {
			w.Errorf("%s is %v (%v), want %v", name, v, ok, value)
		}
	}
}
