package endtoend_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// switchover has all processes behind one address, which leads to a primary.
type switchover struct {
	*world.World
	address   *proxy.Proxy
	log       *slog.Logger
	logged    lockedBuffer
	ready     map[string]func() error
	delivered atomic.Int64
	processes errgroup.Group
}

// TestSwitchover makes the primary read only, promotes its standby and lets the address
// lead there, while open connections to the old one live on. Then the new one comes back as a
// standby, to which all connect, and is promoted.
func TestSwitchover(t *testing.T) {
	t.Parallel()
	w, old := world.SetupOwn(t, "-c", "wal_level=replica", "-c", "max_wal_senders=4")
	standby := testenv.Standby(t, old)
	address, err := proxy.For(old.URL())
	w.Must(err)
	t.Cleanup(address.Close)
	s := &switchover{World: w, address: address, ready: map[string]func() error{}}
	s.log = slog.New(slog.NewTextHandler(&s.logged, nil))
	ctx, stop := context.WithCancel(w.Ctx)
	t.Cleanup(stop)
	s.start(ctx)
	w.CommitMany(5)
	s.awaitAll(5)
	w.AwaitSleep()

	w.Exec(`ALTER SYSTEM SET default_transaction_read_only = on`)
	w.Exec(`SELECT pg_reload_conf()`)
	s.awaitNotReady("streamer", "consumer", "consumer without an archive")
	// One who insists can still write there. It is not numbered there.
	w.Must(pgx.BeginTxFunc(w.Ctx, w.DB, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
		w.Note(tx, "6")
		return nil
	}))
	promoted := s.openPool(standby.URL())
	written := world.Query[string](w, `SELECT pg_current_wal_lsn()::text`)
	w.Await("the standby to have all", func() string {
		var has bool
		w.Must(promoted.QueryRow(w.Ctx, `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, written).Scan(&has))
		return map[bool]string{false: "it lags"}[has]
	})
	s.promote(promoted)
	elsewhere, err := proxy.For(standby.URL())
	w.Must(err)
	t.Cleanup(elsewhere.Close)
	address.Lead(elsewhere.Target())
	s.awaitReady()
	w.AwaitTrue("nobody to be with the old primary", `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'behind the address')`)
	w.WantCount("records that wait on the old primary", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 1)

	w.DB = promoted
	w.CommitMany(4)
	s.awaitAll(10)
	s.comeBackAsStandby(standby)
	s.awaitNotReady("streamer", "consumer", "consumer without an archive")
	s.promote(promoted)
	s.awaitReady()
	w.CommitMany(1)
	s.awaitAll(11)
	stop()
	w.Ended("the processes", &s.processes)
	w.CheckAudit()
	if advice := regexp.MustCompile(`.*(delete the stream|restored|restore ).*`).FindString(s.logged.String()); advice != "" {
		t.Errorf("this was advised: %s", advice)
	}
}

// openPool opens one that is as a user's own may be.
func (s *switchover) openPool(url string) *pgxpool.Pool {
	s.Helper()
	db, err := pgxpool.New(s.Ctx, url)
	s.Must(err)
	testenv.ClosePool(s, db)
	return db
}

// start starts a process of each kind, with connections of its own.
func (s *switchover) start(ctx context.Context) {
	pool := func() *pgxpool.Pool { return s.openPool(s.address.URL() + "&application_name=behind+the+address") }
	streams := s.Streamer(func(cfg *streamer.Config) { cfg.DB, cfg.Logger = pool(), s.log })
	consumes := s.Consumer("sum", func(cfg *consumer.Config) {
		cfg.DB, cfg.Logger = pool(), s.log
		cfg.Archive = cfg.DB
	})
	apart := s.Consumer("apart", func(cfg *consumer.Config) { cfg.DB, cfg.Logger, cfg.Archive = pool(), s.log, nil })
	db := pool()
	delivers, err := deliverer.New(deliverer.Config{
		Name: "elsewhere", Log: s.Log, Archive: db, Checkpoints: deliverer.PostgresCheckpoints(db), Logger: s.log,
		Deliver: func(_ context.Context, _ string, entries []unilog.Entry) error {
			s.delivered.Store(entries[len(entries)-1].Offset)
			return nil
		},
	})
	s.Must(err)
	for name, p := range map[string]interface {
		Run(ctx context.Context) error
		Ready() error
	}{"streamer": streams, "consumer": consumes, "consumer without an archive": apart, "deliverer": delivers} {
		s.ready[name] = p.Ready
		s.processes.Go(func() error { return p.Run(ctx) })
	}
}

// awaitAll waits until so many records are applied by both consumers, and delivered.
func (s *switchover) awaitAll(n int64) {
	s.Helper()
	s.AwaitTrue(fmt.Sprint("all to be at offset ", n), `SELECT count(*) = 3 FROM unilog.checkpoints WHERE "offset" = $1`, n)
	world.AwaitEqual(s.World, "the offset that is delivered", n, s.delivered.Load)
}

func (s *switchover) awaitNotReady(names ...string) {
	s.Helper()
	for _, name := range names {
		s.Await("the "+name+" not to be ready", func() string {
			if err := s.ready[name](); err == nil || !strings.Contains(err.Error(), "takes no writes") {
				return fmt.Sprint("it says ", err)
			}
			return ""
		})
	}
}

func (s *switchover) awaitReady() {
	s.Helper()
	for name, ready := range s.ready {
		s.Await("the "+name+" to be ready", func() string {
			if err := ready(); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

func (s *switchover) promote(db *pgxpool.Pool) {
	s.Helper()
	_, err := db.Exec(s.Ctx, `SELECT pg_promote()`)
	s.Must(err)
}

func (s *switchover) comeBackAsStandby(server *private.Server) {
	s.Helper()
	data := world.Query[string](s.World, `SHOW data_directory`)
	s.Must(server.Stop(s.Ctx))
	s.Must(os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644))
	testenv.Restart(s.TB.(testing.TB), server)
	s.DB.Reset()
}

// lockedBuffer is a bytes.Buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
