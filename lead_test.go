package unilog_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// frozenConn is a connection whose reader stops in the middle of an answer.
type frozenConn struct {
	net.Conn
	isFrozen *atomic.Bool
	thaw     <-chan struct{}
	read     int
}

func (c *frozenConn) Read(p []byte) (int, error) {
	if c.isFrozen.Load() && c.read > 20_000 {
		<-c.thaw
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	if c.isFrozen.Load() {
		c.read += n
	}
	return n, err
}

// A frozen process sees no deadlines either.
func (*frozenConn) SetDeadline(time.Time) error     { return nil }
func (*frozenConn) SetReadDeadline(time.Time) error { return nil }

// TestLeaderFrozenWhileItReadsIsReplaced freezes a leader while Postgres sends
// it a batch, where the timeouts of a session do not run.
func TestLeaderFrozenWhileItReadsIsReplaced(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var isFrozen atomic.Bool
	thaw := make(chan struct{})
	config := w.db.Config().Copy()
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return &frozenConn{Conn: c, isFrozen: &isFrozen, thaw: thaw}, err
	}
	db, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	t.Cleanup(db.Close)
	leader := w.streamer(func(cfg *unilog.StreamerConfig) { cfg.DB = db })
	w.commit("1")
	w.drain(leader)
	tx := w.begin()
	pad := strings.Repeat("x", 2000)
	for range 1500 {
		r := record("0")
		r.Data = json.RawMessage(`{"amount": 0, "pad": "` + pad + `"}`)
		w.must(unilog.Stage(w.ctx, tx, r))
	}
	w.must(tx.Commit(w.ctx))
	isFrozen.Store(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = leader.RunOnce(context.WithoutCancel(w.ctx))
	}()
	next := w.streamer()
	w.eventually(func() bool {
		n, err := next.RunOnce(w.ctx)
		if err != nil && !errors.Is(err, unilog.ErrStandby) {
			t.Error(err)
		}
		return n > 0 || t.Failed()
	})
	close(thaw)
	<-ended
	w.drain(next)
	w.wantCount("stream entries", len(w.streamIDs()), 1501)
}

// TestManyAppendsKeepTheLead publishes a batch in parts, each of them short,
// for longer than a leader may be silent.
func TestManyAppendsKeepTheLead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	way, err := proxy.For(testenv.SharedRedis(t))
	w.must(err)
	t.Cleanup(way.Close)
	way.Slow(30*time.Millisecond, 0)
	far, err := redislog.Open(w.ctx, way.URL(), w.stream)
	w.must(err)
	t.Cleanup(far.Close)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithSessionTimeout(unilog.WithAppendRecords(*cfg, 10), 400*time.Millisecond)
		cfg.Log = far
	})
	w.commitMany(100)
	n, err := s.RunOnce(w.ctx)
	w.must(err)
	w.wantCount("published", n, 100)
	w.wantCount("terms", int(query[int64](w, `SELECT epoch FROM log_partitions`)), 1)
	w.commit("1")
	_, err = s.RunOnce(w.ctx)
	w.must(err)
	w.wantCount("terms", int(query[int64](w, `SELECT epoch FROM log_partitions`)), 1)
}
