package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

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
	s.Resign()
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

// TestFaultAtEveryMessage lets a streamer and a consumer meet a fault at the
// first message that passes between them and a server, then at the second, and
// so on, until they meet none: in their connecting, leading, numbering,
// appending, recording, and so on.
func TestFaultAtEveryMessage(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"streamer", "consumer"} {
		for _, server := range []string{"Postgres", "Redis"} {
			for _, what := range []string{"cut", "hole"} {
				for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
					t.Run(strings.Join([]string{who, server, what, d.String()}, " "), func(t *testing.T) {
						t.Parallel()
						n := setupNetwork(t)
						p := n.proxy(server)
						begin := map[string]func() (once, func()){"streamer": n.beginStreaming, "consumer": n.beginConsuming}[who]
						met := 0
						for ; ; met++ {
							n.commit("1", "1")
							f, end := begin()
							var sprung, hole <-chan struct{}
							if what == "cut" {
								sprung = p.CutAt(d, proxy.Nth(met+1))
							} else {
								hole = p.BlackholeAt(d, proxy.Nth(met+1), d)
								sprung = hole
							}
							n.insistThrough(hole, f, func() { heal(p) })
							// By these themselves: others would make up for what they skip.
							if who == "streamer" {
								n.wantCount("stream entries", len(n.streamIDs()), 2*(met+1))
							} else {
								n.wantTotal("sum", fmt.Sprint(2*(met+1)))
							}
							end()
							heal(p)
							if !happened(sprung) {
								break
							}
						}
						if met < 3 {
							t.Errorf("only %d faults were met", met)
						}
						n.check(2 * (met + 1))
					})
				}
			}
		}
	}
}

func happened(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// beginStreaming starts a process that has to add a chunk before long.
func (n *network) beginStreaming() (once, func()) {
	n.Helper()
	s := n.farStreamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 4)
		cfg.BatchRecords = 2
	})
	return s.RunOnce, s.Resign
}

// beginConsuming starts a process on a connection of its own.
func (n *network) beginConsuming() (once, func()) {
	n.Helper()
	n.settle()
	n.farDB.Reset()
	return n.farConsumer("sum").RunOnce, func() {}
}

// The answer is lost, and what it answers is done: which nobody knows.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"cut", "hole"} {
		// lose arms a fault, and meets it with a RunOnce.
		lose := func(n *network, p *proxy.Proxy, answer string, f once) {
			if what == "cut" {
				n.meet(p.CutAt(proxy.ToClient, proxy.Containing(answer)), nil, f)
				return
			}
			hole := p.BlackholeAt(proxy.ToClient, proxy.Containing(answer), proxy.ToClient)
			n.meet(hole, hole, f)
		}
		t.Run("append "+what, func(t *testing.T) {
			t.Parallel()
			n := setupNetwork(t)
			s := n.farStreamer()
			n.drain(s)
			n.commitMany(5)
			lose(n, n.redis, "appended\r\n$1\r\n5\r\n", s.RunOnce)
			n.wantCount("stream entries at the loss", len(n.streamIDs()), 5)
			heal(n.redis)
			n.commitMany(5)
			n.insist(s.RunOnce, func() { heal(n.redis) })
			s.Resign()
			n.check(10)
		})
		t.Run("commit "+what, func(t *testing.T) {
			t.Parallel()
			n := setupNetwork(t)
			n.commitMany(5)
			n.settle()
			c := n.farConsumer("sum")
			lose(n, n.postgres, "COMMIT\x00", c.RunOnce)
			n.wantTotal("sum", "5")
			heal(n.postgres)
			n.insist(c.RunOnce, func() { heal(n.postgres) })
			n.check(5)
		})
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

// Nothing resets the connections that have lost something, and nothing comes on
// them any more.
func TestSilentConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
		for _, server := range []string{"Postgres", "Redis"} {
			t.Run(server+" "+d.String(), func(t *testing.T) {
				t.Parallel()
				n := setupNetwork(t)
				p := n.proxy(server)
				s := n.farStreamer()
				c := n.farConsumer("sum")
				n.commitMany(5)
				n.drain(s)
				n.consume(c)
				n.commitMany(5)
				for _, f := range []once{s.RunOnce, c.RunOnce} {
					hole := p.BlackholeAt(d, proxy.Nth(1), d)
					n.meet(hole, hole, f)
					p.Blackhole(0)
					n.insist(f, func() {})
				}
				s.Resign()
				n.check(10)
			})
		}
	}
}

// TestRunGoesOnThroughFaults runs all processes on a network that fails in one
// way after the other.
func TestRunGoesOnThroughFaults(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	ctx, stop := context.WithCancel(n.ctx)
	var processes errgroup.Group
	for range 2 {
		s, c := n.farStreamer(), n.farConsumer("sum")
		processes.Go(func() error { return s.Run(ctx) })
		processes.Go(func() error { return c.Run(ctx) })
	}
	n.Cleanup(func() { // before the streamers resign, also when the test has failed
		stop()
		_ = processes.Wait()
	})
	records := 0
	for _, server := range []string{"Postgres", "Redis"} {
		p := n.proxy(server)
		for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
			for _, fault := range []func() <-chan struct{}{
				func() <-chan struct{} { return p.CutAt(d, proxy.Nth(1)) },
				func() <-chan struct{} { p.Refuse(true); return p.CutAt(d, proxy.Nth(1)) },
				func() <-chan struct{} { return p.BlackholeAt(d, proxy.Nth(1), d) },
				func() <-chan struct{} { return p.BlackholeAt(d, proxy.Nth(1), proxy.Both) },
			} {
				sprung := fault()
				n.commitMany(10)
				receive(n.world, "the fault to be met", sprung)
				n.commitMany(10)
				p.Refuse(false)
				heal(p)
				records += 20
				n.awaitTotal("sum", fmt.Sprint(records))
			}
		}
	}
	stop()
	n.ended("the processes", &processes)
	n.check(records)
}

func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	n.postgres.Slow(2*time.Millisecond, 8<<10)
	n.redis.Slow(2*time.Millisecond, 8<<10)
	n.commitMany(10)
	s := n.farStreamer()
	n.insist(s.RunOnce, func() {})
	n.wantCount("stream entries", len(n.streamIDs()), 10)
	n.insist(n.farConsumer("sum").RunOnce, func() {})
	n.wantTotal("sum", "10")
	s.Resign()
	n.check(10)
}
