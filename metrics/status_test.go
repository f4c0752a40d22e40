package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

func TestStatus(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.reg.MustRegister(metrics.Status(w.db, "", w.log))
	s := w.streamer(func(*streamer.Config) {})
	c := w.consumer(func(*consumer.Config) {})
	w.stage(`1`, `"poison"`, `3`)
	stop := w.run(s)
	w.awaitScrape(map[string]float64{"unilog_published_offset": 3, "unilog_leaders": 1})
	w.drain(c.RunOnce)
	w.stage(`4`)
	w.awaitScrape(map[string]float64{"unilog_published_offset": 4})
	stop()
	w.stage(`5`)
	w.must(consumer.In("").Pause(t.Context(), w.near, "c", ""))
	w.must(w.log.(unilog.Reporter).Report(t.Context(), "elsewhere", map[int]unilog.Cursor{0: {Offset: 2}}))
	got := w.awaitScrape(map[string]float64{
		"unilog_status_up": 1, "unilog_staged_records": 1, "unilog_numbered_offset": 4, "unilog_published_offset": 4,
		"unilog_archive_first_offset": 1, "unilog_log_up": 1, "unilog_log_head_offset": 4, "unilog_leaders": 0,
		"unilog_trouble_seconds": 0, "unilog_old_transactions": 0,
		`unilog_consumer_checkpoint_offset{consumer="c"}`: 3, `unilog_consumer_lag_records{consumer="c"}`: 1,
		`unilog_dead_letters{consumer="c"}`: 1, `unilog_consumer_paused{consumer="c"}`: 1,
		`unilog_consumer_checkpoint_offset{consumer="elsewhere"}`: 2, `unilog_consumer_lag_records{consumer="elsewhere"}`: 2,
	})
	for _, unknown := range []string{`unilog_dead_letters{consumer="elsewhere"}`, `unilog_consumer_paused{consumer="elsewhere"}`} {
		if value, ok := got[unknown]; ok {
			t.Errorf("it tells that %s is %v, which nobody knows", unknown, value)
		}
	}
	for _, name := range []string{
		"unilog_staged_oldest_seconds", `unilog_consumer_lag_seconds{consumer="c"}`, `unilog_consumer_silent_seconds{consumer="c"}`,
	} {
		if !(got[name] > 0) {
			t.Errorf("%s is %v", name, got[name])
		}
	}
}

// TestStatusWithoutConsumersTables scrapes the database of writers whose consumers keep
// their checkpoints elsewhere, and of a log in a schema of its own.
func TestStatusWithoutConsumersTables(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const tenant = unilog.Schema("tenant")
	w.must(migration.In(tenant).Up(t.Context(), w.near, migration.Log))
	w.must(tenant.Stage(t.Context(), w.near, unilog.Record{Action: "note", Object: "text", Data: []byte(`1`)}))
	w.reg.MustRegister(metrics.Status(w.db, tenant, w.log))
	w.awaitScrape(map[string]float64{"unilog_status_up": 1, "unilog_staged_records": 1, "unilog_partitions": 1, "unilog_log_up": 1})
}

// What an operator needs to know of each partition, he is told.
func TestStatusOfPartitions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if _, err := migration.Repartition(t.Context(), w.near, 4); err != nil {
		t.Fatal(err)
	}
	s := w.streamer(func(cfg *streamer.Config) { cfg.Observer = metrics.Streamer(w.reg) })
	w.stage(`1`, `2`, `3`, `4`, `5`, `6`, `7`, `8`, `9`) // without keys: by their ids, 1 to 9
	w.run(s)
	if _, err := w.near.Exec(t.Context(), `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('c', 0, 2), ('c', 1, 1)`); err != nil {
		t.Fatal(err)
	}
	w.reg.MustRegister(metrics.Status(w.db, "", w.log))
	want := map[string]float64{
		"unilog_partitions": 4, "unilog_leaders": 4, "unilog_leader": 4, "unilog_numbered_offset": 9, "unilog_published_offset": 9,
		"unilog_log_head_offset": 9, "unilog_archive_first_offset": 1,
		`unilog_consumer_checkpoint_offset{consumer="c"}`: 3, `unilog_consumer_lag_records{consumer="c"}`: 6, `unilog_consumer_paused{consumer="c"}`: 0,
	}
	for partition, records := range []float64{2, 3, 2, 2} {
		label := fmt.Sprintf(`{partition="%d"}`, partition)
		for _, name := range []string{"numbered_offset", "published_offset", "log_head_offset"} {
			want["unilog_partition_"+name+label] = records
		}
		want["unilog_partition_leaders"+label] = 1
		lag := []float64{0, 2, 2, 2}[partition]
		want[fmt.Sprintf(`unilog_consumer_partition_lag_records{consumer="c",partition="%d"}`, partition)] = lag
	}
	w.awaitScrape(want)
}

// A scrape has an answer, and no figure that is not known, whatever is lost. It
// knows all again when that is back.
func TestStatusOfWhatIsLost(t *testing.T) {
	t.Parallel()
	const up, numbered, logUp, head = "unilog_status_up", "unilog_numbered_offset", "unilog_log_up", "unilog_log_head_offset"
	for name, lose := range map[string]func(*proxy.Proxy){
		"down":   func(p *proxy.Proxy) { p.Refuse(true); p.Cut() },
		"silent": func(p *proxy.Proxy) { p.Blackhole(proxy.Both) },
	} {
		for server, figures := range map[string]struct{ lost, without, other, with string }{
			"Postgres": {up, numbered, logUp, head},
			"Redis":    {logUp, head, up, numbered},
		} {
			t.Run(server+" is "+name, func(t *testing.T) {
				t.Parallel()
				w := setupNetwork(t)
				w.reg.MustRegister(metrics.Status(w.db, "", w.log))
				w.awaitScrape(map[string]float64{up: 1, numbered: 0, logUp: 1, head: 0})
				p := map[string]*proxy.Proxy{"Postgres": w.postgres, "Redis": w.redis}[server]
				lose(p)
				got := w.awaitScrape(map[string]float64{figures.lost: 0, figures.other: 1})
				if _, ok := got[figures.without]; ok {
					t.Errorf("it says %v", got)
				}
				if _, ok := got[figures.with]; !ok {
					t.Errorf("it lacks %s", figures.with)
				}
				p.Refuse(false)
				p.Blackhole(0)
				p.Cut()
				if _, ok := w.awaitScrape(map[string]float64{figures.lost: 1})[figures.without]; !ok {
					t.Errorf("it lacks %s", figures.without)
				}
			})
		}
	}
}

var errNoAnswer = errors.New("no answer")

// asked is a database and a log that count how often they are asked, and can be
// silent.
type asked struct {
	unilog.Log
	database, log atomic.Int64
	silent        bool
}

func (a *asked) Begin(ctx context.Context) (pgx.Tx, error) {
	a.database.Add(1)
	return nil, a.answer(ctx)
}

func (a *asked) Head(ctx context.Context, _ int) (unilog.Head, error) {
	a.log.Add(1)
	return unilog.Head{}, a.answer(ctx)
}

func (a *asked) answer(ctx context.Context) error {
	if a.silent {
		<-ctx.Done()
	}
	return errNoAnswer
}

// TestStatusIsReadOnceASecond goes by a clock of its own, which stands still while
// anybody is at work.
func TestStatusIsReadOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := new(asked)
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics.Status(servers, "", servers))
		for second := range int64(3) {
			for _, wait := range []time.Duration{0, time.Second - 1} {
				time.Sleep(wait)
				var scrapes sync.WaitGroup
				for range 20 {
					scrapes.Go(func() {
						if _, err := reg.Gather(); err != nil {
							t.Error(err)
						}
					})
				}
				scrapes.Wait()
				if d, l := servers.database.Load(), servers.log.Load(); d != second+1 || l != second+1 {
					t.Errorf("%v after second %d: the database was read %d times and the log %d times", wait, second, d, l)
				}
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

func TestStatusIsReadForThreeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := &asked{silent: true}
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics.Status(servers, "", servers))
		began := time.Now()
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it gave up after %v, want 3s", took)
		}
	})
}
