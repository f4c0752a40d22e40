package consumer_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// selective is a world of two kinds of records: amounts, which are asked for, and others,
// which have none.
type selective struct {
	*world.World
	passed world.Heard
}

func setupSelective(t *testing.T) *selective { return &selective{World: world.Setup(t)} }

var other = unilog.Record{Action: "note", Object: "other", Data: []byte(`{"amount":0}`)}

// write publishes records: an amount for each digit, and others for the rest.
func (s *selective) write(kinds string) {
	s.Helper()
	for _, kind := range kinds {
		if kind == '.' {
			s.Must(unilog.Stage(s.Ctx, s.DB, other))
		} else {
			s.Commit(string(kind))
		}
	}
	streamer := s.Streamer()
	defer streamer.Close()
	s.Drain(streamer)
}

// selects makes a consumer of amounts, in batches of five, which saves what it has passed
// over after such a pause.
func (s *selective) selects(pause time.Duration, change ...func(*consumer.Config)) *consumer.Consumer {
	s.Helper()
	return s.Consumer("sum", append([]func(*consumer.Config){func(cfg *consumer.Config) {
		*cfg = consumer.WithPassedPause(*cfg, pause)
		cfg.Only, cfg.BatchRecords = []unilog.Kind{{Object: "amount"}}, 5
		cfg.Observer.PassedOver = func(entries int64) { s.passed.Add("%d", entries) }
	}}, change...)...)
}

func (s *selective) wantCheckpoint(want int64) {
	s.Helper()
	if at := checkpoint(s.World, "sum"); at != want {
		s.Errorf("the checkpoint is %d, want %d", at, want)
	}
}

func TestOnlyWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write("..1..")
	s.write(".....")
	s.write("23.")
	var given, hooks []string
	note := func(list *[]string, entries []unilog.Entry) { *list = append(*list, world.Span(entries)) }
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			note(&given, entries)
			return add(ctx, tx, entries)
		}
		cfg.Hooks.BeforeCommit = func(_ context.Context, entries []unilog.Entry) error { note(&hooks, entries); return nil }
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) { note(&hooks, entries) }
	})
	s.WantCount("applied and passed over", s.Consume(c), 13)
	s.WantTotal("sum", "6")
	s.wantCheckpoint(13)
	if got := fmt.Sprint(given, hooks); got != "[3-3 11-12] [3-3 3-3 11-12 11-12]" {
		t.Errorf("the handler and the hooks got %s", got)
	}
	s.passed.Want(s.World, "4", "5", "1")
	s.WantCount("with nothing new", s.Consume(c), 0)
}

// TestPassingOverTakesNoTransactions stops a consumer in a run of records that nobody has
// asked for, before a read or in one.
func TestPassingOverTakesNoTransactions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int64{"before a read": 25, "in a read": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setupSelective(t)
			s.write(strings.Repeat(".", 30) + "1")
			ctx, stop := context.WithCancel(s.Ctx)
			last := false
			s.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
				if last && want == 20 {
					stop()
				}
				err := do(ctx)
				if last && call.Method == "Head" { // the end of what a reader does at once
					stop()
				}
				return err
			})
			running := s.selects(await.Patience, func(cfg *consumer.Config) {
				cfg.Log = watched{s.Log, func(_ context.Context, after int64) error { last = after == 20; return nil }}
			})
			s.Must(s.EndOf(ctx, running.Run))
			s.wantCheckpoint(want)
			s.passed.Want(s.World, fmt.Sprint(want))
			s.Memory.Intercept(nil)
			s.WantCount("applied and passed over later", s.Consume(s.selects(await.Patience)), int(31-want))
			s.WantTotal("sum", "1")
		})
	}
}

// impatient is a log whose reads wait for next to nothing.
type impatient struct{ unilog.Log }

func (l impatient) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	return l.Log.Read(ctx, partition, after, limit, min(wait, time.Millisecond))
}

// TestWhatWasPassedOverIsSaved sees that an idle consumer saves it when it is due, and
// reads nothing again until then.
func TestWhatWasPassedOverIsSaved(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]time.Duration{"due": time.Millisecond, "not due": await.Patience} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setupSelective(t)
			s.write("...")
			ctx, stop := context.WithCancel(s.Ctx)
			begun, looks := 0, 0
			c := s.selects(pause, func(cfg *consumer.Config) {
				cfg.Log = watched{impatient{s.Log}, func(_ context.Context, after int64) error {
					if after == 0 {
						begun++
					} else if looks++; looks > 3 && checkpoint(s.World, "sum") == map[string]int64{"due": 3}[name] {
						stop()
					}
					return nil
				}}
			})
			s.Must(s.EndOf(ctx, c.Run))
			s.WantCount("times that it read from the beginning", begun, 1)
			s.wantCheckpoint(3)
		})
	}
}

// TestCheckpointWhereAPersonMustDecide sees that it is directly before a record that is
// rejected, or missing.
func TestCheckpointWhereAPersonMustDecide(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		log  string
		halt func(*selective, *consumer.Config)
		want int64
	}{
		"rejected after a batch that was passed over": {".....9", func(*selective, *consumer.Config) {}, 5},
		"rejected within a batch":                     {".1..9.2", func(*selective, *consumer.Config) {}, 4},
		"a gap": {"......1", func(s *selective, cfg *consumer.Config) {
			cfg.Archive = nil
			cfg.Log = watched{s.Log, func(_ context.Context, after int64) error {
				if after == 5 {
					return s.Memory.Trim(s.Ctx, 0, 6)
				}
				return nil
			}}
		}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setupSelective(t)
			s.write(c.log)
			reader := s.selects(await.Patience, func(cfg *consumer.Config) {
				cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "9")
				c.halt(s, cfg)
			})
			err := s.EndOf(s.Ctx, reader.Run)
			if rejected, gap := new(unilog.RejectedError), new(unilog.GapError); !errors.As(err, &rejected) && !errors.As(err, &gap) {
				t.Errorf("Run returns %v", err)
			}
			s.wantCheckpoint(c.want)
		})
	}
}

// TestBarrierAmongRecordsThatNobodyAskedFor lets two partitions wait for each other's
// checkpoints. After the barrier there is an entry of a later version of the log.
func TestBarrierAmongRecordsThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	log := logtest.NewMemory()
	barrier := unilog.Record{Action: "repartition", Object: unilog.ReservedObject, Data: []byte(`{"partitions":2,"offsets":[4,3]}`)}
	for partition, at := range []int64{4, 3} {
		_, err := log.Claim(s.Ctx, unilog.Term{Partition: partition, Partitions: 2, LogID: "ours", Epoch: 1})
		s.Must(err)
		for offset := int64(1); offset <= at+2; offset++ {
			e := unilog.Entry{Record: other, Partition: partition, Offset: offset}
			if offset == at {
				e.Record = barrier
			}
			log.Put(e)
		}
	}
	ctx, stop := context.WithCancel(s.Ctx)
	ended := make(chan error, 1)
	later := make(chan unilog.Entry, 1)
	log.Put(unilog.Entry{Record: unilog.Record{Action: "later", Object: unilog.ReservedObject, Data: []byte(`{}`)}, Offset: 7})
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		cfg.Log, cfg.Archive = log, nil
		cfg.Handler = consumer.Each(func(_ context.Context, _ pgx.Tx, e unilog.Entry) error { later <- e; return nil })
	})
	go func() { ended <- c.Run(ctx) }()
	s.AwaitThat("both to pass the barrier", func() bool {
		return world.Query[int](s.World, `SELECT count(*) FROM unilog.checkpoints WHERE "offset" >= 4 - partition`) == 2
	})
	await.Receive(t, "the entry of a later version", later)
	stop()
	s.Must(await.Receive(t, "Run to end", ended))
	s.Exec(`DELETE FROM unilog.checkpoints`) // the audit knows nothing of this log
}

// TestOvertakenWhilePassingOver lets another instance apply what this one has only passed
// over so far.
func TestOvertakenWhilePassingOver(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write("..........1")
	ctx, stop := context.WithCancel(s.Ctx)
	overtaken := false
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		cfg.Log = watched{impatient{s.Log}, func(_ context.Context, after int64) error {
			switch {
			case after == 5 && !overtaken:
				overtaken = true
				s.WantCount("applied and passed over by another instance", s.Consume(s.selects(await.Patience)), 11)
				s.write("2")
			case after == 12:
				stop()
			}
			return nil
		}}
	})
	s.Must(s.EndOf(ctx, c.Run))
	s.WantTotal("sum", "3")
	s.wantCheckpoint(12)
}

// TestSourceIsRestoredWhilePassingOver takes a source back to before what was passed over
// and not saved: only the log is ahead then, and a checkpoint there would be wrong for ever.
func TestSourceIsRestoredWhilePassingOver(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write(".....")
	ctx, stop := context.WithCancel(s.Ctx)
	var failure error
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		cfg.Log = watched{impatient{s.Log}, func(_ context.Context, after int64) error {
			if after == 5 {
				s.Exec(`UPDATE unilog.partitions SET next_offset = 4, published_offset = 3`)
			}
			return nil
		}}
		cfg.Observer.Failed = func(err error) { failure = err; stop() }
	})
	s.Must(s.EndOf(ctx, c.Run))
	if ahead := new(unilog.LogAheadError); !errors.As(failure, &ahead) || ahead.Log != 5 || ahead.Database != 3 {
		t.Errorf("it says %v", failure)
	}
	s.wantCheckpoint(0)
	s.Exec(`UPDATE unilog.partitions SET next_offset = 6, published_offset = 5`)
}

// TestRejectedInARowAmongOthers sees that records which are rejected in a row are found
// although others lie between, and that one that was applied ends a row.
func TestRejectedInARowAmongOthers(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write(strings.Repeat("9.", 15) + "1" + strings.Repeat("9.", 21))
	c := s.selects(await.Patience, func(cfg *consumer.Config) {
		cfg.ParkRejected, cfg.Handler = true, world.Rejecting(cfg.Handler, func() {}, "9")
	})
	err := s.EndOf(s.Ctx, c.Run)
	if rejected := new(unilog.RejectedError); !errors.As(err, &rejected) || rejected.Offset != 2*15+1+2*20+1 {
		t.Errorf("Run returns %v", err)
	}
	s.WantCount("parked", world.Query[int](s.World, `SELECT count(*) FROM unilog.dead_letters`), 15+20)
	s.wantCheckpoint(2*15 + 1 + 2*20)
}

func TestOnlyIsChecked(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for _, kind := range []unilog.Kind{{}, {Action: "create"}, {Object: unilog.ReservedObject}} {
		cfg := consumer.Config{Name: "sum", DB: w.DB, Log: w.Log, Handler: world.CountEntries(new(int)), Only: []unilog.Kind{{Object: "order"}, kind}}
		if _, err := consumer.New(cfg); err == nil || !strings.Contains(err.Error(), "Config.Only[1].Object") {
			t.Errorf("only %+v: %v", kind, err)
		}
	}
}

var benchRecords = flag.Int("records", 10_000, "how many records BenchmarkOnly reads each time")

// BenchmarkOnly reads records of which all, one in a hundred or only the last are asked
// for, by a typed handler that adds up in memory, or writes for each record. With
// -args -records 1000000 it has more of them.
func BenchmarkOnly(b *testing.B) {
	w := world.SetupOnRedis(b)
	for done := 0; done < *benchRecords; {
		var some []unilog.Record
		for range 10_000 {
			r := world.Record("0")
			switch done++; {
			case done == *benchRecords:
				r.Action = "last"
			case done%100 == 0:
				r.Action = "rare"
			}
			if some = append(some, r); done == *benchRecords {
				break
			}
		}
		w.Must(unilog.Stage(w.Ctx, w.DB, some...))
	}
	w.Drain(w.Streamer())
	type amount struct {
		Amount int `json:"amount"`
	}
	sum := 0
	add := func(_ context.Context, _ pgx.Tx, data amount, _ unilog.Entry) error {
		sum += data.Amount
		return nil
	}
	write := func(ctx context.Context, tx pgx.Tx, data amount, _ unilog.Entry) error {
		_, err := tx.Exec(ctx, `INSERT INTO amounts (amount) VALUES ($1)`, data.Amount)
		return err
	}
	for name, handler := range map[string]func(context.Context, pgx.Tx, amount, unilog.Entry) error{"adds": add, "writes": write} {
		for asked, actions := range map[string][]string{"all": {""}, "one percent": {"rare", "last"}, "the last": {"last"}} {
			b.Run(name+"/"+asked, func(b *testing.B) {
				mux := consumer.Mux[pgx.Tx]{IgnoreUnknown: true}
				for _, action := range actions {
					consumer.On(&mux, "amount", action, handler)
				}
				b.ReportAllocs()
				for b.Loop() {
					ctx, stop := context.WithCancel(w.Ctx)
					c := w.Consumer("bench", func(cfg *consumer.Config) {
						cfg.Handler, cfg.Only = mux.Handle, mux.Kinds()
						cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
							if entries[len(entries)-1].Action == "last" {
								stop()
							}
						}
					})
					w.Must(w.EndOf(ctx, c.Run))
					w.Exec(`UPDATE unilog.checkpoints SET "offset" = 0`)
				}
				b.ReportMetric(float64(*benchRecords*b.N)/b.Elapsed().Seconds(), "records/s")
			})
		}
	}
	w.Exec(`TRUNCATE unilog.checkpoints, amounts`)
}
