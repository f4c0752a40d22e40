package streamer_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// countedStreamer is a streamer with the number of partitions that it leads.
func countedStreamer(w *world.World, change ...func(*streamer.Config)) (*streamer.Streamer, *atomic.Int64) {
	w.Helper()
	leads := new(atomic.Int64)
	return w.Streamer(append(change, func(cfg *streamer.Config) {
		cfg.Observer.Leading = func(_ int, epoch int64) {
			if epoch > 0 {
				leads.Add(1)
			} else {
				leads.Add(-1)
			}
		}
	})...), leads
}

// TestStreamersShareThePartitions starts and stops streamers while records are
// staged.
func TestStreamersShareThePartitions(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	const partitions = 8
	w.Repartition(partitions, 1)
	all := world.Keys(30)
	awaitShares := func(want string, leads ...*atomic.Int64) {
		t.Helper()
		world.AwaitEqual(w, "the numbers of partitions that each leads", want, func() string {
			led := make([]int64, len(leads))
			for i, n := range leads {
				led[i] = n.Load()
			}
			slices.Sort(led)
			return fmt.Sprint(led)
		})
	}
	run := func() (*atomic.Int64, func()) {
		s, leads := countedStreamer(w)
		ctx, cancel := context.WithCancel(w.Ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		stop := func() { cancel(); w.Must(world.Receive(w, "the streamer to end", ended)) }
		t.Cleanup(cancel)
		return leads, stop
	}
	one, stopOne := run()
	w.CommitKeyed(1, 5, all...)
	awaitShares("[8]", one)
	w.AwaitPublished(150)
	two, stopTwo := run()
	awaitShares("[4 4]", one, two)
	w.CommitKeyed(6, 10, all...)
	w.AwaitPublished(300)
	three, stopThree := run()
	awaitShares("[2 3 3]", one, two, three)
	w.CommitKeyed(11, 15, all...)
	stopOne()
	awaitShares("[4 4]", two, three)
	w.CommitKeyed(16, 20, all...)
	w.AwaitPublished(600)
	stopTwo()
	awaitShares("[8]", three)
	w.CommitKeyed(21, 25, all...)
	w.AwaitPublished(750)
	stopThree()
	wantKeys(w, partitions, 25, all...)
}

// TestLostStreamerIsReplaced loses sessions of two streamers at random.
func TestLostStreamerIsReplaced(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(4, 1)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	var group errgroup.Group
	config := w.DB.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "streamers"
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	onTheirOwn := func(cfg *streamer.Config) { cfg.DB = db }
	one, leadsOne := countedStreamer(w, onTheirOwn)
	two, leadsTwo := countedStreamer(w, onTheirOwn)
	group.Go(func() error { return one.Run(ctx) })
	group.Go(func() error { return two.Run(ctx) })
	world.AwaitEqual(w, "the partitions that the first one leads", 2, leadsOne.Load)
	world.AwaitEqual(w, "the partitions that the second one leads", 2, leadsTwo.Load)
	all := world.Keys(8)
	for i := range 5 {
		w.CommitKeyed(10*i+1, 10*i+10, all...)
		w.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'streamers' AND random() < 0.5`)
	}
	w.AwaitPublished(400)
	cancel()
	w.Ended("the streamers", &group)
	wantKeys(w, 4, 50, all...)
}

// TestStreamerThatCannotReachTheLog lets one of two lose its way to the log, but not
// to the database.
func TestStreamerThatCannotReachTheLog(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	n.Repartition(4, 1)
	one, leads := countedStreamer(n.World)
	stopOne := running(n.World, one)
	stopTwo := running(n.World, n.Streamer(func(cfg *streamer.Config) { cfg.Log = n.FarLog }))
	leadsOf := func(want int64) {
		n.Helper()
		world.AwaitEqual(n.World, "the partitions that one leads", want, leads.Load)
	}
	leadsOf(2)
	n.Redis.Refuse(true)
	n.Redis.Cut()
	all := world.Keys(8)
	n.CommitKeyed(1, 5, all...)
	n.AwaitPublished(5 * len(all))
	leadsOf(4)
	n.Redis.Refuse(false)
	leadsOf(2)
	n.CommitKeyed(6, 10, all...)
	n.AwaitPublished(10 * len(all))
	stopTwo()
	stopOne()
	wantKeys(n.World, 4, 10, all...)
}

// TestLockIsNotKeptWithoutWork lets a streamer have no time to give a partition's lock back.
func TestLockIsNotKeptWithoutWork(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	const held = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	if world.Query[int](w, held) == 0 {
		t.Fatal("the streamer leads without a lock")
	}
	s.GiveBackTooLate(0)
	world.AwaitQuery(w, "the locks that are held", 0, held)
	next := w.Streamer()
	w.Commit("2")
	w.WantCount("published by the next", w.Drain(next), 1)
}
