package unilog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

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
						begin := map[string]func(*network) (once, func()){"streamer": beginStreaming, "consumer": beginConsuming}[who]
						met := 0
						for ; ; met++ {
							n.commit("1", "1")
							f, end := begin(n)
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
			s.Close()
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
				s.Close()
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
	s.Close()
	n.check(10)
}

// beginStreaming starts a process that has to add a chunk before long.
func beginStreaming(n *network) (once, func()) {
	n.Helper()
	s := n.farStreamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 4)
		cfg.BatchRecords = 2
	})
	return s.RunOnce, s.Close
}

// beginConsuming starts a process on a connection of its own.
func beginConsuming(n *network) (once, func()) {
	n.Helper()
	n.settle()
	n.farDB.Reset()
	return n.farConsumer("sum").RunOnce, func() {}
}
