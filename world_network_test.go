package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// network is a world with a second way to its servers, on which things fail.
// The test itself, and its checks, use the first.
type network struct {
	*world
	postgres, redis *proxy.Proxy
	farDB           *pgxpool.Pool
	farLog          *redislog.Log
}

func setupNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{world: setup(t)}
	through := func(url string) *proxy.Proxy {
		p, err := proxy.For(url)
		n.must(err)
		t.Cleanup(p.Close)
		return p
	}
	n.postgres = through(n.db.Config().ConnString())
	n.redis = through(testenv.SharedRedis(t))
	config, err := pgxpool.ParseConfig(n.postgres.URL())
	n.must(err)
	config.MaxConns = 4
	n.farDB, err = pgxpool.NewWithConfig(n.ctx, config)
	n.must(err)
	t.Cleanup(n.farDB.Close)
	n.farLog, err = redislog.Open(n.ctx, n.redis.URL(), n.stream)
	n.must(err)
	t.Cleanup(n.farLog.Close)
	t.Cleanup(func() { // so that closing has nothing to wait for
		heal(n.postgres)
		heal(n.redis)
	})
	return n
}

func (n *network) proxy(server string) *proxy.Proxy {
	return map[string]*proxy.Proxy{"Postgres": n.postgres, "Redis": n.redis}[server]
}

// heal fills holes, and resets what fell into them.
func heal(p *proxy.Proxy) {
	p.Blackhole(0)
	p.Cut()
}

func (n *network) farStreamer(change ...func(*unilog.StreamerConfig)) *unilog.Streamer {
	n.Helper()
	return n.streamer(append([]func(*unilog.StreamerConfig){func(cfg *unilog.StreamerConfig) {
		cfg.DB, cfg.Log = n.farDB, n.farLog
	}}, change...)...)
}

func (n *network) farConsumer(name string) *unilog.Consumer {
	n.Helper()
	return n.consumer(name, func(cfg *unilog.ConsumerConfig) {
		cfg.DB, cfg.Archive, cfg.Log = n.farDB, n.farDB, n.farLog
	})
}

type once = func(context.Context) (int, error)

// lapsing is a context whose deadline passes when a fault has happened which nothing
// but a deadline ends, whatever the speed of the machine.
type lapsing struct {
	context.Context
	over chan struct{}
}

func (l lapsing) Done() <-chan struct{} { return l.over }

func (l lapsing) Err() error {
	if happened(l.over) {
		return context.DeadlineExceeded
	}
	return nil
}

// lapse gives a call the bound of all waits, or, if it falls into a hole, the time
// until it is there.
func (n *network) lapse(hole <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(n.ctx, await.Patience)
	l := lapsing{ctx, make(chan struct{})}
	go func() {
		defer close(l.over)
		select {
		case <-hole:
		case <-ctx.Done():
		}
	}()
	return l, func() { cancel(); <-l.over }
}

// insist calls a RunOnce until nothing is left to do, and heals the network after
// each failure.
func (n *network) insist(f once, heal func()) {
	n.Helper()
	n.insistThrough(nil, f, heal)
}

// insistThrough is insist for a call that may fall into a hole.
func (n *network) insistThrough(hole <-chan struct{}, f once, heal func()) {
	n.Helper()
	n.await("nothing to be left to do", func() string {
		if hole != nil && happened(hole) {
			heal()
			hole = nil
		}
		ctx, cancel := n.lapse(hole)
		defer cancel()
		done, err := f(ctx)
		switch {
		case errors.Is(err, unilog.ErrStandby): // the server has yet to notice that a session is over
		case err != nil:
			heal()
		case done == 0:
			return ""
		}
		return fmt.Sprintf("%d done, and the error is %v", done, err)
	})
}

// settle publishes what is left, as soon as nobody else leads.
func (n *network) settle() {
	n.Helper()
	s := n.streamer()
	n.insist(s.RunOnce, func() {})
	s.Close()
}

// check sees that so many records are in the log, once, and that a consumer
// has applied them, or does it now.
func (n *network) check(records int) {
	n.Helper()
	n.settle()
	n.wantCount("archived", query[int](n.world, `SELECT count(*) FROM log_records`), records)
	n.wantCount("stream entries", len(n.streamIDs()), records)
	n.consume(n.consumer("sum"))
	n.wantCount("applied", query[int](n.world, `SELECT count(*) FROM applied`), records)
	n.wantTotal("sum", fmt.Sprint(records))
}

func happened(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// meet calls a RunOnce until it has met a fault, which may be a hole, and wants an
// error then.
func (n *network) meet(sprung, hole <-chan struct{}, f once) {
	n.Helper()
	n.await("the fault to be met", func() string {
		ctx, cancel := n.lapse(hole)
		defer cancel()
		done, err := f(ctx)
		switch {
		case !happened(sprung):
			n.must(err)
			return fmt.Sprintf("%d done", done)
		case err == nil:
			n.Fatal("the fault gave no error")
		}
		return ""
	})
}

// short lets a leader be silent for so short a time that it may lose the lead because
// the machine is slow: insist on what it does.
func short(cfg *unilog.StreamerConfig) {
	cfg.SessionTimeout = 100 * time.Millisecond
}

// awaitLead waits until a streamer leads.
func (w *world) awaitLead(s *unilog.Streamer) {
	w.Helper()
	w.await("the lead to be free", func() string {
		_, err := s.RunOnce(w.ctx)
		if errors.Is(err, unilog.ErrStandby) {
			return err.Error()
		}
		w.must(err)
		return ""
	})
}
