package endtoend_test

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/status"
)

// statusOf reads the status of one consumer, nil if it is not seen.
func statusOf(w *world.World, name string) *status.Consumer {
	w.Helper()
	s := w.Status()
	if troubles := s.Troubles(); s.ReportsError != "" {
		w.Errorf("the troubles are %q", troubles)
	}
	var found *status.Consumer
	for i := range s.Consumers {
		if s.Consumers[i].Name != name {
			continue
		}
		if found != nil {
			w.Errorf("%s is there twice", name)
		}
		found = &s.Consumers[i]
	}
	return found
}

func wantSeen(w *world.World, when, name string, elsewhere bool, checkpoint, lag int64) {
	w.Helper()
	c := statusOf(w, name)
	if c == nil || c.Elsewhere != elsewhere || c.Checkpoint != checkpoint || c.Lag != lag || c.Silent < 0 || c.Silent > 300 {
		w.Errorf("%s, status sees %+v, want offset %d and a lag of %d, elsewhere: %v", when, c, checkpoint, lag, elsewhere)
	}
}

// TestConsumerElsewhereIsSeen has the log in Redis, and consumers whose state is in
// another database.
func TestConsumerElsewhereIsSeen(t *testing.T) {
	t.Parallel()
	w, state := world.SetupSource(t), world.StateElsewhere(t)
	s := w.Streamer()
	log := w.Log.(unilog.Reporter)
	mails := func() *consumer.Consumer { return w.Consumer("mails", at(state)) }
	w.Commit("1", "2", "4")
	w.Drain(s)
	state.Consume(mails())
	w.Commit("8")
	w.Drain(s)
	wantSeen(w, "after a batch", "mails", true, 3, 1)
	state.Consume(mails())
	wantSeen(w, "when it has caught up", "mails", true, 4, 0)

	// Redis loses it, until the next report.
	w.Must(w.Redis.Do(w.Ctx, w.Redis.B().Del().Key("{"+w.Stream+"}:consumers").Build()).Error())
	if c := statusOf(w, "mails"); c != nil {
		t.Errorf("after a loss, status sees %+v", c)
	}
	state.Consume(mails())
	wantSeen(w, "after its next report", "mails", true, 4, 0)

	// Who has checkpoints here needs no report, whatever pool it has.
	again, err := pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
	w.Must(err)
	testenv.ClosePool(t, again)
	w.Consume(w.Consumer("sum", func(cfg *consumer.Config) { cfg.DB, cfg.Archive = again, nil }))
	reports, err := log.Reports(w.Ctx)
	w.Must(err)
	if len(reports) != 1 || reports[0].Name != "mails" || reports[0].Offset != 4 {
		t.Errorf("the reports are %+v", reports)
	}
	// A name that is known twice: checkpoints win.
	w.Must(log.Report(w.Ctx, "sum", map[int]unilog.Cursor{0: {Offset: 1}}))
	wantSeen(w, "beside its own checkpoint", "sum", false, 4, 0)
	w.Must(log.ForgetReports(w.Ctx, "mails"))
	if c := statusOf(w, "mails"); c != nil {
		t.Errorf("when it is forgotten, status sees %+v", c)
	}

	// A report that is refused stops nobody.
	key := "{" + w.Stream + "}:consumers"
	w.Must(w.Redis.Do(w.Ctx, w.Redis.B().Set().Key(key).Value("another's").Build()).Error())
	w.Commit("16")
	w.Drain(s)
	refused := 0
	count := func(cfg *consumer.Config) { cfg.Observer.Unreported = func(error) { refused++ } }
	state.Consume(w.Consumer("mails", at(state), count))
	state.WantTotal("mails", "31")
	if refused == 0 { // it may have had the time for another attempt
		t.Error("nothing was refused")
	}
	w.Must(w.Redis.Do(w.Ctx, w.Redis.B().Del().Key(key).Build()).Error())

	// The checkpoint of another log says nothing of this one.
	state.Exec(`UPDATE unilog.checkpoints SET log_id = 'another'`)
	_, _ = mails().RunOnce(w.Ctx)
	if c := statusOf(w, "mails"); c != nil {
		t.Errorf("with another log's checkpoint, status sees %+v", c)
	}
}

// TestSeveralProcessesElsewhereAreSeen shares partitions between two processes of one
// consumer, which know of each other by their own database.
func TestSeveralProcessesElsewhereAreSeen(t *testing.T) {
	t.Parallel()
	w, state := world.SetupSource(t), world.StateElsewhere(t)
	w.Exec(`INSERT INTO unilog.partitions (partition) SELECT generate_series(1, 3)`)
	w.Exec(`UPDATE unilog.log SET partitions = 4`)
	s := w.Streamer()
	w.CommitKeyed(1, 5, world.Keys(20)...)
	w.Drain(s)
	state.Exec(`ALTER TABLE applied DROP CONSTRAINT applied_pkey`)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running errgroup.Group
	for range 2 {
		c := w.Consumer("mails", at(state))
		running.Go(func() error { return c.Run(ctx) })
	}
	w.AwaitThat("all partitions to be reported", func() bool {
		c := statusOf(w, "mails")
		return c != nil && c.Elsewhere && c.Checkpoint == 100 && c.Lag == 0
	})
	stop()
	w.Must(running.Wait())
	state.WantTotal("mails", "100")
	reports, err := w.Log.(unilog.Reporter).Reports(t.Context())
	w.Must(err)
	var partitions []int
	for _, r := range reports {
		partitions = append(partitions, r.Partition)
		if want := world.Query[int64](state, `SELECT "offset" FROM unilog.checkpoints WHERE partition = $1`, r.Partition); r.Offset != want {
			t.Errorf("partition %d is reported at %d, and is at %d", r.Partition, r.Offset, want)
		}
	}
	if slices.Sort(partitions); !slices.Equal(partitions, []int{0, 1, 2, 3}) {
		t.Errorf("reported are the partitions %v", partitions)
	}
	w.Exec(`DELETE FROM unilog.batches WHERE partition > 0`) // the world's own check knows one
}

// TestDelivererElsewhereIsSeen has a deliverer with a file, and the log in Postgres alone.
func TestDelivererElsewhereIsSeen(t *testing.T) {
	t.Parallel()
	w := world.SetupSource(t)
	log, err := pglog.Open(w.Ctx, w.DB, "")
	w.Must(err)
	t.Cleanup(log.Close)
	w.Log = log
	s := w.Streamer()
	w.Commit("1", "2")
	w.Drain(s)
	var outside world.Arrivals
	file, err := deliverer.OpenFileCheckpoints(t.TempDir() + "/checkpoints")
	w.Must(err)
	d := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) { cfg.Name, cfg.Checkpoints = "webhook", file })
	w.Repeat(d.RunOnce)
	w.Commit("4")
	w.Drain(s)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return d.Run(ctx) })
	await.True(t, "the deliverer to report that it has caught up", func() bool {
		c := statusOf(w, "webhook")
		return c != nil && c.Checkpoint == 3 && c.Lag == 0
	})
	stop()
	w.Must(running.Wait())
	// In the log's own database its checkpoints are seen by themselves.
	own := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) { cfg.Name = "own" })
	w.Repeat(own.RunOnce)
	if names := world.Query[string](w, `SELECT string_agg(name, ' ') FROM unilog.readers`); names != "webhook" {
		t.Errorf("reported have %s", names)
	}
	wantSeen(w, "with checkpoints here", "own", false, 3, 0)
	_ = file.Close()
}
