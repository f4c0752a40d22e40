package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestFaultAtEveryMessage lets a streamer and a consumer meet a fault at the
// first message that passes between them and a server, then at the second, and
// so on, until they meet none: in their connecting, leading, numbering,
// appending, recording, and so on.
func TestFaultAtEveryMessage(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"streamer", "consumer"} {
		for _, server := range []string{"Postgres", "Redis"} {
			for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
				name := strings.Join([]string{who, server, d.String()}, " ")
				t.Run(name+" cut", func(t *testing.T) { t.Parallel(); faultAtEach(t, who, server, "cut", d, 1, 1) })
				// Each hole takes its second: four go side by side.
				for first := 1; first <= 4; first++ {
					t.Run(name+" hole from "+strconv.Itoa(first), func(t *testing.T) { t.Parallel(); faultAtEach(t, who, server, "hole", d, first, 4) })
				}
			}
		}
	}
}

// faultAtEach meets a fault at the first message, and at each that comes so many later.
func faultAtEach(t *testing.T, who, server, what string, d proxy.Direction, first, step int) {
	t.Helper()
	n := world.SetupNetwork(t)
	p := n.Proxy(server)
	begin := map[string]func(*world.Network) (world.Once, func()){"streamer": beginStreaming, "consumer": beginConsuming}[who]
	met := 0
	for ; ; met++ {
		n.Commit("1", "1")
		f, end := begin(n)
		var sprung, hole <-chan struct{}
		if at := proxy.Nth(first + met*step); what == "cut" {
			sprung = p.CutAt(d, at)
		} else {
			hole = p.BlackholeAt(d, at, d)
			sprung = hole
		}
		n.InsistThrough(hole, f, func() { world.Heal(p) })
		// By these themselves: others would make up for what they skip.
		if who == "streamer" {
			n.WantCount("stream entries", len(n.Offsets()), 2*(met+1))
		} else {
			n.WantTotal("sum", fmt.Sprint(2*(met+1)))
		}
		end()
		world.Heal(p)
		if !world.Happened(sprung) {
			break
		}
	}
	if met*step+first < 4 {
		t.Errorf("only %d faults were met", met)
	}
	n.Check(2 * (met + 1))
}

// The answer is lost, and what it answers is done: which nobody knows.
func TestAnswerLost(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"cut", "hole"} {
		// lose arms a fault, and meets it with a RunOnce.
		lose := func(n *world.Network, p *proxy.Proxy, answer proxy.Match, f world.Once) {
			if what == "cut" {
				n.Meet(p.CutAt(proxy.ToClient, answer), nil, f)
				return
			}
			hole := p.BlackholeAt(proxy.ToClient, answer, proxy.ToClient)
			n.Meet(hole, hole, f)
		}
		t.Run("append "+what, func(t *testing.T) {
			t.Parallel()
			n := world.SetupNetwork(t)
			s := n.FarStreamer()
			n.Drain(s)
			n.CommitMany(5)
			appended, already := proxy.Containing("appended\r\n$1\r\n5\r\n"), proxy.Containing("already\r\n$1\r\n5\r\n") // if the first was too late
			lose(n, n.Redis, func(chunk []byte) bool { return appended(chunk) || already(chunk) }, s.RunOnce)
			n.WantCount("stream entries at the loss", len(n.Offsets()), 5)
			world.Heal(n.Redis)
			n.CommitMany(5)
			n.Insist(s.RunOnce, func() { world.Heal(n.Redis) })
			s.Close()
			n.Check(10)
		})
		t.Run("commit "+what, func(t *testing.T) {
			t.Parallel()
			n := world.SetupNetwork(t)
			n.CommitMany(5)
			n.Settle()
			c := n.FarConsumer("sum")
			lose(n, n.Postgres, proxy.Containing("COMMIT\x00"), c.RunOnce)
			n.WantTotal("sum", "5")
			world.Heal(n.Postgres)
			n.Insist(c.RunOnce, func() { world.Heal(n.Postgres) })
			n.Check(5)
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
				n := world.SetupNetwork(t)
				p := n.Proxy(server)
				s := n.FarStreamer()
				c := n.FarConsumer("sum")
				n.CommitMany(5)
				n.Drain(s)
				n.Consume(c)
				n.CommitMany(5)
				for _, f := range []world.Once{s.RunOnce, c.RunOnce} {
					hole := p.BlackholeAt(d, proxy.Nth(1), d)
					n.Meet(hole, hole, f)
					p.Blackhole(0)
					n.Insist(f, func() {})
				}
				s.Close()
				n.Check(10)
			})
		}
	}
}

// TestRunGoesOnThroughFaults runs all processes on a network that fails in one
// way after the other.
func TestRunGoesOnThroughFaults(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	ctx, stop := context.WithCancel(n.Ctx)
	var processes errgroup.Group
	for range 2 {
		s, c := n.FarStreamer(), n.FarConsumer("sum")
		processes.Go(func() error { return s.Run(ctx) })
		processes.Go(func() error { return c.Run(ctx) })
	}
	n.Cleanup(func() { // before the streamers resign, also when the test has failed
		stop()
		_ = processes.Wait()
	})
	records := 0
	for _, server := range []string{"Postgres", "Redis"} {
		p := n.Proxy(server)
		for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
			for _, fault := range []func() <-chan struct{}{
				func() <-chan struct{} { return p.CutAt(d, proxy.Nth(1)) },
				func() <-chan struct{} { p.Refuse(true); return p.CutAt(d, proxy.Nth(1)) },
				func() <-chan struct{} { return p.BlackholeAt(d, proxy.Nth(1), d) },
				func() <-chan struct{} { return p.BlackholeAt(d, proxy.Nth(1), proxy.Both) },
			} {
				sprung := fault()
				n.CommitMany(10)
				world.Receive(n.World, "the fault to be met", sprung)
				n.CommitMany(10)
				p.Refuse(false)
				world.Heal(p)
				records += 20
				n.AwaitTotal("sum", fmt.Sprint(records))
			}
		}
	}
	stop()
	n.Ended("the processes", &processes)
	n.Check(records)
}

func TestSlowNetwork(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	n.Postgres.Slow(2*time.Millisecond, 8<<10)
	n.Redis.Slow(2*time.Millisecond, 8<<10)
	n.CommitMany(10)
	s := n.FarStreamer()
	n.Insist(s.RunOnce, func() {})
	n.WantCount("stream entries", len(n.Offsets()), 10)
	n.Insist(n.FarConsumer("sum").RunOnce, func() {})
	n.WantTotal("sum", "10")
	s.Close()
	n.Check(10)
}

// beginStreaming starts a process.
func beginStreaming(n *world.Network) (world.Once, func()) {
	n.Helper()
	s := n.FarStreamer(func(cfg *streamer.Config) { cfg.BatchRecords = 2 })
	return s.RunOnce, s.Close
}

// beginConsuming starts a process on a connection of its own.
func beginConsuming(n *world.Network) (world.Once, func()) {
	n.Helper()
	n.Settle()
	n.FarDB.Reset()
	return n.FarConsumer("sum").RunOnce, func() {}
}

// TestEveryCallIsBounded stands in for waiting: a call that has a deadline
// returns from a black hole, as the other tests show.
func TestEveryCallIsBounded(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	calls := &boundedCalls{Log: w.Log}
	config := w.DB.Config().Copy()
	config.ConnConfig.Tracer = calls
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	ctx, stop := context.WithCancel(w.Ctx)
	var processes errgroup.Group
	processes.Go(func() error {
		return w.Streamer(func(cfg *streamer.Config) {
			cfg.DB, cfg.Log, cfg.BatchRecords, cfg.KeepRecords = db, calls, 10, 10
		}).Run(ctx)
	})
	processes.Go(func() error {
		return w.Consumer("sum", func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.Log = db, db, calls
			cfg.ParkRejected = true
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
				if slices.ContainsFunc(entries, func(e unilog.Entry) bool { return e.Offset == 50 }) {
					return errors.New("rejected")
				}
				_, err := tx.Exec(ctx, `SELECT`)
				return err
			}
		}).Run(ctx)
	})
	t.Cleanup(func() { // before the streamer resigns, also when the test has failed
		stop()
		_ = processes.Wait()
	})
	for range 10 {
		w.CommitMany(10)
	}
	world.AwaitQuery(w, "the checkpoint", 100, `SELECT coalesce((SELECT "offset" FROM unilog.checkpoints), 0)`)
	w.Wipe() // to be rebuilt
	w.Await("the log to be rebuilt", func() string {
		if w.LogLength() == 0 {
			return "it is empty"
		}
		return ""
	})
	stop()
	w.Ended("the processes", &processes)
	if calls.number == 0 || len(calls.unbounded) > 0 {
		t.Errorf("of %d calls these have no deadline: %q", calls.number, calls.unbounded)
	}
	w.Exec(`INSERT INTO sums VALUES ('sum', 99)`) // and one is parked
}

// boundedCalls notes which calls have no deadline.
type boundedCalls struct {
	unilog.Log
	mu        sync.Mutex
	number    int
	unbounded []string
}

func (b *boundedCalls) note(ctx context.Context, call string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number++
	if _, ok := ctx.Deadline(); !ok && !slices.Contains(b.unbounded, call) {
		b.unbounded = append(b.unbounded, call)
	}
}

func (b *boundedCalls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	b.note(ctx, q.SQL)
	return ctx
}

func (b *boundedCalls) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (b *boundedCalls) Head(ctx context.Context, partition int) (unilog.Head, error) {
	b.note(ctx, "Head")
	return b.Log.Head(ctx, partition)
}

func (b *boundedCalls) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	b.note(ctx, "Claim")
	return b.Log.Claim(ctx, term)
}

func (b *boundedCalls) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	b.note(ctx, "Append")
	return b.Log.Append(ctx, term, entries)
}

func (b *boundedCalls) Reset(ctx context.Context, term unilog.Term, head int64) error {
	b.note(ctx, "Reset")
	return b.Log.Reset(ctx, term, head)
}

func (b *boundedCalls) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	b.note(ctx, "Read")
	return b.Log.Read(ctx, partition, after, limit, wait)
}

func (b *boundedCalls) Trim(ctx context.Context, partition int, upTo int64) error {
	b.note(ctx, "Trim")
	return b.Log.Trim(ctx, partition, upTo)
}
