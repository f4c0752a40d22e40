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

// insist calls a RunOnce until nothing is left to do. It gives a call little
// time, as some of them are lost in a hole, and more if that was too little.
func (n *network) insist(f once, heal func()) {
	n.Helper()
	bound := 100 * time.Millisecond
	for {
		ctx, cancel := context.WithTimeout(n.ctx, bound)
		done, err := f(ctx)
		cancel()
		switch {
		case n.ctx.Err() != nil:
			n.Fatal(err)
		case errors.Is(err, unilog.ErrStandby): // the server has yet to notice that a session is over
		case err != nil:
			heal()
			bound += bound / 2
		case done == 0:
			return
		}
	}
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
							var sprung <-chan struct{}
							if what == "cut" {
								sprung = p.CutAt(d, proxy.Nth(met+1))
							} else {
								sprung = p.BlackholeAt(d, proxy.Nth(met+1), d)
							}
							n.insist(f, func() { heal(p) })
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
		lose := func(p *proxy.Proxy, answer string) <-chan struct{} {
			if what == "cut" {
				return p.CutAt(proxy.ToClient, proxy.Containing(answer))
			}
			return p.BlackholeAt(proxy.ToClient, proxy.Containing(answer), proxy.ToClient)
		}
		t.Run("append "+what, func(t *testing.T) {
			t.Parallel()
			n := setupNetwork(t)
			s := n.farStreamer()
			n.drain(s)
			n.commitMany(5)
			n.until(lose(n.redis, "appended\r\n$1\r\n5\r\n"), s.RunOnce)
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
			n.until(lose(n.postgres, "COMMIT\x00"), c.RunOnce)
			n.wantTotal("sum", "5")
			heal(n.postgres)
			n.insist(c.RunOnce, func() { heal(n.postgres) })
			n.check(5)
		})
	}
}

// until calls a RunOnce until it has met a fault, and wants an error then.
func (n *network) until(sprung <-chan struct{}, f once) {
	n.Helper()
	for bound := 200 * time.Millisecond; ; bound += bound {
		ctx, cancel := context.WithTimeout(n.ctx, bound)
		_, err := f(ctx)
		cancel()
		if happened(sprung) {
			if err == nil {
				n.Errorf("the fault gave no error")
			}
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			n.must(err)
		}
	}
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
				s := n.farStreamer(func(cfg *unilog.StreamerConfig) {
					*cfg = unilog.WithSessionTimeout(*cfg, time.Second)
				})
				c := n.farConsumer("sum")
				n.commitMany(5)
				n.drain(s)
				n.consume(c)
				n.commitMany(5)
				n.until(p.BlackholeAt(d, proxy.Nth(1), d), s.RunOnce)
				p.Blackhole(0)
				n.insist(s.RunOnce, func() {})
				n.until(p.BlackholeAt(d, proxy.Nth(1), d), c.RunOnce)
				p.Blackhole(0)
				n.insist(c.RunOnce, func() {})
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
				<-sprung
				n.commitMany(10)
				p.Refuse(false)
				heal(p)
				records += 20
				n.eventually(func() bool { return n.total("sum") == fmt.Sprint(records) })
			}
		}
	}
	stop()
	n.must(processes.Wait())
	n.check(records)
}

func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	n.postgres.Slow(2*time.Millisecond, 8<<10)
	n.redis.Slow(2*time.Millisecond, 8<<10)
	n.commitMany(10)
	s := n.farStreamer()
	n.wantCount("published", n.drain(s), 10)
	n.wantCount("applied", n.consume(n.farConsumer("sum")), 10)
	s.Resign()
	n.check(10)
}
