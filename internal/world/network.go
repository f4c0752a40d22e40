package world

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

// Network is a world with a second way to its servers, on which things fail.
// The test itself, and its checks, use the first.
type Network struct {
	*World
	Postgres, Redis *proxy.Proxy
	FarDB           *pgxpool.Pool
	FarLog          *redislog.Log
}

func SetupNetwork(t *testing.T) *Network {
	t.Helper()
	n := &Network{World: SetupOnRedis(t)}
	through := func(url string) *proxy.Proxy {
		p, err := proxy.For(url)
		n.Must(err)
		t.Cleanup(p.Close)
		return p
	}
	n.Postgres = through(n.DB.Config().ConnString())
	n.Redis = through(testenv.SharedRedis(t))
	config, err := pgxpool.ParseConfig(n.Postgres.URL())
	n.Must(err)
	config.MaxConns = 4
	n.FarDB, err = pgxpool.NewWithConfig(n.Ctx, config)
	n.Must(err)
	testenv.ClosePool(t, n.FarDB)
	n.FarLog, err = redislog.Open(n.Ctx, n.Redis.URL(), n.Stream)
	n.Must(err)
	t.Cleanup(n.FarLog.Close)
	t.Cleanup(func() { // so that closing has nothing to wait for
		Heal(n.Postgres)
		Heal(n.Redis)
	})
	return n
}

func (n *Network) Proxy(server string) *proxy.Proxy {
	return map[string]*proxy.Proxy{"Postgres": n.Postgres, "Redis": n.Redis}[server]
}

// Heal fills holes, and resets what fell into them.
func Heal(p *proxy.Proxy) {
	p.Blackhole(0)
	p.Cut()
}

func (n *Network) FarStreamer(change ...func(*streamer.Config)) *streamer.Streamer {
	n.Helper()
	return n.Streamer(append([]func(*streamer.Config){func(cfg *streamer.Config) {
		cfg.DB, cfg.Log = n.FarDB, n.FarLog
	}}, change...)...)
}

func (n *Network) FarConsumer(name string) *consumer.Consumer {
	n.Helper()
	return n.Consumer(name, func(cfg *consumer.Config) {
		cfg.DB, cfg.Archive, cfg.Log = n.FarDB, n.FarDB, n.FarLog
	})
}

type Once = func(context.Context) (int, error)

// lapsing is a context whose deadline passes when a fault has happened which nothing
// but a deadline ends, whatever the speed of the machine.
type lapsing struct {
	context.Context
	over chan struct{}
}

func (l lapsing) Done() <-chan struct{} { return l.over }

func (l lapsing) Err() error {
	if Happened(l.over) {
		return context.DeadlineExceeded
	}
	return nil
}

// Lapse gives a call the bound of all waits, or, if it falls into a hole, the time
// until it is there.
func (n *Network) Lapse(hole <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(n.Ctx, await.Patience)
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

// Insist calls a RunOnce until nothing is left to do, and heals the network after
// each failure.
func (n *Network) Insist(f Once, heal func()) {
	n.Helper()
	n.InsistThrough(nil, f, heal)
}

// InsistThrough is insist for a call that may fall into a hole.
func (n *Network) InsistThrough(hole <-chan struct{}, f Once, heal func()) {
	n.Helper()
	n.Await("nothing to be left to do", func() string {
		if hole != nil && Happened(hole) {
			heal()
			hole = nil
		}
		ctx, cancel := n.Lapse(hole)
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

// Settle publishes what is left, as soon as nobody else leads.
func (n *Network) Settle() {
	n.Helper()
	s := n.Streamer()
	n.Insist(s.RunOnce, func() {})
	s.Close()
}

// Check sees that so many records are in the log, once, and that a consumer
// has applied them, or does it now.
func (n *Network) Check(records int) {
	n.Helper()
	n.Settle()
	n.WantCount("archived", Query[int](n.World, `SELECT count(*) FROM unilog.records`), records)
	n.WantCount("stream entries", len(n.Offsets()), records)
	n.Consume(n.Consumer("sum"))
	n.WantCount("applied", Query[int](n.World, `SELECT count(*) FROM applied`), records)
	n.WantTotal("sum", fmt.Sprint(records))
}

func Happened(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Meet calls a RunOnce until it has met a fault, which may be a hole, and wants an
// error then.
func (n *Network) Meet(sprung, hole <-chan struct{}, f Once) {
	n.Helper()
	n.Await("the fault to be met", func() string {
		ctx, cancel := n.Lapse(hole)
		defer cancel()
		done, err := f(ctx)
		switch {
		case !Happened(sprung):
			if !IsSlow(err) && !errors.Is(err, unilog.ErrStandby) {
				n.Must(err)
			}
			return fmt.Sprintf("%d done, and the error is %v", done, err)
		case err == nil:
			n.Fatal("the fault gave no error")
		}
		return ""
	})
}

// Short lets a leader be silent for so short a time that it may lose the lead because
// the machine is slow: insist on what it does.
func Short(cfg *streamer.Config) {
	cfg.SessionTimeout = time.Second
}

// AwaitLead waits until a streamer leads.
func (w *World) AwaitLead(s *streamer.Streamer) {
	w.Helper()
	w.Await("the lead to be free", func() string {
		_, err := s.RunOnce(w.Ctx)
		if errors.Is(err, unilog.ErrStandby) || IsSlow(err) {
			return err.Error()
		}
		w.Must(err)
		return ""
	})
}
