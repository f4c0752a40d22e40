package consumer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

// at makes a consumer begin somewhere.
func at(start unilog.Start) func(*consumer.Config) {
	return func(cfg *consumer.Config) { cfg.Start = start }
}

// TestConsumerBeginsWhereItIsTold has nine records, of which the archive has the last five.
func TestConsumerBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	w.Publish(6)
	w.Exec(`UPDATE unilog.batches SET numbered_at = now() - interval '1 h' WHERE last_offset < 9`)
	ago := func(d time.Duration) unilog.Start { return unilog.Start{Time: time.Now().Add(-d)} }
	alone := func(cfg *consumer.Config) { cfg.Archive = nil }
	for name, c := range map[string]struct {
		start   unilog.Start
		archive bool
		want    int
	}{
		"the beginning":          {unilog.Start{}, true, 9},
		"the head":               {unilog.Start{Head: true}, true, 0},
		"the log's head":         {unilog.Start{Head: true}, false, 0},
		"an offset":              {offset(3), true, 7},
		"an offset of the log's": {offset(3), false, 7},
		"an offset beyond":       {offset(30), true, 0},
		"beyond the log's":       {offset(30), false, 0},
		"a time before all":      {ago(2 * time.Hour), true, 9},
		"a time between":         {ago(time.Minute), true, 6},
		"a time after all":       {ago(-time.Minute), true, 0},
	} {
		change := []func(*consumer.Config){at(c.start)}
		if !c.archive {
			change = append(change, alone)
		}
		if n := w.Consume(w.Consumer(name, change...)); n != c.want {
			t.Errorf("from %s it has applied %d, want %d", name, n, c.want)
		}
		// It says nothing to one that has begun.
		if n := w.Consume(w.Consumer(name, at(unilog.Start{Offset: 1}))); n != 0 {
			t.Errorf("from %s, begun anew, it has applied %d", name, n)
		}
	}
	w.Publish(1)
	for _, name := range []string{"the head", "the log's head", "beyond the log's", "a time after all"} {
		w.WantCount("of "+name+", what came later", w.Consume(w.Consumer(name)), 1)
	}
	b, err := world.Audit.Reconcile(w.Ctx, w.DB, "the head")
	w.Must(err)
	if !b.Agrees || b.Began != 9 || b.Total != "1" {
		t.Errorf("the balance of who began at the head is %+v", b)
	}
	w.WantTotal("the head", "10")
	w.WantCount("consumers that are audited now", world.Query[int](w, `SELECT count(*) FROM unilog.checkpoints WHERE name = 'the head' AND began = 0`), 1)

	w.LoseArchive(0, 4)
	for name, start := range map[string]unilog.Start{"lost offset": offset(4), "lost time": ago(2 * time.Hour)} {
		_, err := w.Consumer(name, at(start)).RunOnce(w.Ctx)
		missing := new(unilog.NotArchivedError)
		if !errors.As(err, &missing) || missing.First != 5 {
			t.Errorf("%s: it says %v", name, err)
		}
		if err := w.EndOf(w.Ctx, w.Consumer(name, at(start)).Run); !errors.As(err, &missing) {
			t.Errorf("%s: Run says %v", name, err)
		}
		w.WantCount("checkpoints of "+name, world.Query[int](w, `SELECT count(*) FROM unilog.checkpoints WHERE name = $1`, name), 0)
	}
}

// TestStartIsOfAllPartitionsAtOnce adds a partition after the consumer has begun at the head
// of the others, and processes at the same time.
func TestStartIsOfAllPartitionsAtOnce(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 2)
	p.Write(0, "1", "1")
	p.Write(1, "1")
	p.Exec(`DELETE FROM amounts`) // who begins later never has them
	both := make(chan error, 2)
	for range 2 {
		c := p.Consumer("sum", at(unilog.Start{Head: true}), func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") })
		go func() {
			_, err := c.RunOnce(p.Ctx)
			both <- err
		}()
	}
	for range 2 {
		p.Must(world.Receive(p.World, "a process", both))
	}
	p.Grow(3)
	p.Write(2, "1", "1")
	p.WriteAll()
	runs := p.Run(at(unilog.Start{Head: true}))
	p.AwaitApplied("sum")
	runs.Stop()
	p.WantTotal("sum", "5")
	p.Exec(`UPDATE unilog.checkpoints SET began = 0`) // the audit now holds
	p.Exec(`INSERT INTO applied (name, partition, "offset") OVERRIDING SYSTEM VALUE VALUES ('sum', 0, 1), ('sum', 0, 2), ('sum', 1, 1)`)
	p.Exec(`UPDATE applied SET n = DEFAULT WHERE (partition, "offset") NOT IN ((0, 1), (0, 2), (1, 1))`)
}

// TestStartIsChecked refuses what cannot be.
func TestStartIsChecked(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for name, change := range map[string]func(*consumer.Config){
		"two starts":             at(unilog.Start{Head: true, Offset: 1}),
		"an offset before all":   at(unilog.Start{Offset: -1}),
		"a time, but no archive": func(cfg *consumer.Config) { cfg.Start.Time, cfg.Archive = time.Now(), nil },
		"a pause before now":     func(cfg *consumer.Config) { cfg.RetryHalted = -1 },
	} {
		cfg := consumer.Config{Name: "c", DB: w.DB, Archive: w.DB, Log: w.Log, Handler: consumer.Each(w.Add("c"))}
		change(&cfg)
		if _, err := consumer.New(cfg); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}
