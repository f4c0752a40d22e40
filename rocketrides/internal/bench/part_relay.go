package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/plainrelay"
)

const (
	// RelayCommand is the subcommand of [Config.Command] that runs the plain relay.
	RelayCommand = "plain-relay"

	// relayRecords is how many records there are to drain at the most, and stagedAtOnce
	// how many are staged by one statement.
	relayRecords = 200_000
	stagedAtOnce = 1000
)

// relayRates are records a second, each staged by a transaction of its own.
var relayRates = []int{100, 1000}

// contestant is a relay: ours, or the plain one.
type contestant struct {
	process []string // with its arguments
	stream  string
	field   string // of an entry, that has the record's JSON
	vacuum  string // the statement, for all of its tables
	stage   func(ctx context.Context, db *pgx.Conn, from, n int) error
	// done says whether the database knows that so many records are published.
	done func(ctx context.Context, records int) (bool, error)

	staged  int // records, so far
	figures map[string]float64
}

// measureRelay measures the streamer next to a relay that a team would write itself,
// step by step in turn, on one database and one Redis.
func measureRelay(ctx context.Context, r *round) error {
	if runtime.GOOS != "linux" {
		r.add("all", "", 0, limit{name: "only Linux tells"})
		return nil
	}
	return r.within(ctx, func(w *world) (err error) {
		// When vacuum comes is chance; what it costs is measured apart.
		if err := w.autovacuum(ctx, "off"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.autovacuum(context.WithoutCancel(ctx), "on")) }()
		// What it writes, not what it writes again to compact it.
		if err := w.redis.Do(ctx, w.redis.B().ConfigSet().ParameterValue().ParameterValue("auto-aof-rewrite-percentage", "0").Build()).Error(); err != nil {
			return err
		}
		if _, err := w.db.Exec(ctx, plainrelay.SQLTable); err != nil {
			return fmt.Errorf("make the plain relay's table: %w", err)
		}
		ours, plain := w.ours(), w.plain()
		both := []*contestant{ours, plain}
		records := min(relayRecords, w.records)
		if err := w.measureDrains(ctx, both, records); err != nil {
			return err
		}
		w.compareDrains(ours.figures, plain.figures, records)
		for i, rate := range relayRates {
			for j, c := range both {
				w.progress.show(0.4+0.3*(float64(i)+float64(j)/2), number(float64(rate))+" records/s")
				if err := w.measureRate(ctx, c, rate); err != nil {
					return fmt.Errorf("%s at %d records/s: %w", c.process[0], rate, err)
				}
			}
			w.compareRates(ours.figures, plain.figures, rate)
		}
		return nil
	})
}

// autovacuum turns it on or off for the whole server.
func (w *world) autovacuum(ctx context.Context, value string) error {
	for _, sql := range []string{`ALTER SYSTEM SET autovacuum = ` + value, `SELECT pg_reload_conf()`} {
		if _, err := w.servers.admin.Exec(ctx, sql); err != nil {
			return fmt.Errorf("turn autovacuum %s: %w", value, err)
		}
	}
	return nil
}

func (w *world) ours() *contestant {
	return &contestant{
		process: []string{"streamer", fmt.Sprintf("--keep-records=%d", 2*relayRecords)},
		stream:  stream, field: "data", vacuum: sqlVacuum, stage: stageOurs,
		done: func(ctx context.Context, records int) (bool, error) {
			published, err := w.published(ctx)
			return published >= int64(records), err
		},
		figures: map[string]float64{},
	}
}

func (w *world) plain() *contestant {
	return &contestant{
		process: []string{RelayCommand},
		stream:  plainrelay.Stream, field: plainrelay.Field, vacuum: plainrelay.SQLVacuum, stage: stagePlain,
		done: func(ctx context.Context, _ int) (done bool, err error) {
			err = w.db.QueryRow(ctx, plainrelay.SQLDone).Scan(&done)
			return done, err
		},
		figures: map[string]float64{},
	}
}

// stageOurs stages as a writer of rides does.
func stageOurs(ctx context.Context, db *pgx.Conn, from, n int) error {
	records := make([]unilog.Record, n)
	for i := range records {
		records[i] = unilog.Record{Action: "create", Object: "ride", Key: strconv.Itoa(from + i), Data: relayedRide(from + i)}
	}
	return unilog.Stage(ctx, db, records...)
}

// stagePlain stages the same for the plain relay.
func stagePlain(ctx context.Context, db *pgx.Conn, from, n int) error {
	records := make([]plainrelay.Record, n)
	for i := range records {
		records[i] = plainrelay.Record{Type: "ride.created", Key: strconv.Itoa(from + i), Payload: string(relayedRide(from + i))}
	}
	return plainrelay.Stage(ctx, db, records...)
}

// relayedRide is the JSON of a ride.
func relayedRide(id int) []byte {
	return fmt.Appendf(nil, `{"id": %d, "distance": %d.%02d, "customer_id": %d}`, id, 5+id%995, id%100, id%5000)
}

// measureDrains stages records for each and drains them. Without a checkpoint
// between, so that WAL has what is written and no images of pages.
func (w *world) measureDrains(ctx context.Context, both []*contestant, records int) error {
	if _, err := w.db.Exec(ctx, `CHECKPOINT`); err != nil {
		return err
	}
	for _, c := range both {
		if err := w.measureStaging(ctx, c, records); err != nil {
			return fmt.Errorf("stage for %s: %w", c.process[0], err)
		}
	}
	for _, c := range both {
		if err := w.measureDrain(ctx, c, records); err != nil {
			return fmt.Errorf("drain by %s: %w", c.process[0], err)
		}
	}
	return nil
}

func (w *world) measureStaging(ctx context.Context, c *contestant, records int) error {
	db, err := pgx.Connect(ctx, w.databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	before, err := w.used(ctx, nil)
	if err != nil {
		return err
	}
	for c.staged < records {
		w.progress.show(0.1*float64(c.staged)/float64(records), "staging for "+c.process[0])
		n := min(stagedAtOnce, records-c.staged)
		if err := c.stage(ctx, db, c.staged+1, n); err != nil {
			return err
		}
		c.staged += n
	}
	after, err := w.used(ctx, nil)
	if err != nil {
		return err
	}
	c.note("stage", "Postgres", microseconds(after.postgres-before.postgres)/float64(records))
	c.note("stage", "WAL", (after.wal-before.wal)/float64(records))
	return nil
}

func (w *world) measureDrain(ctx context.Context, c *contestant, records int) error {
	p, err := w.start(c.process...)
	if err != nil {
		return err
	}
	before, err := w.used(ctx, p)
	if err != nil {
		return err
	}
	y, err := w.follow(ctx, int64(records), func(ctx context.Context) (int64, error) {
		return w.redis.Do(ctx, w.redis.B().Xlen().Key(c.stream).Build()).AsInt64()
	})
	if err != nil {
		return err
	}
	if err := w.await(ctx, func() (bool, error) { return c.done(ctx, records) }); err != nil {
		return err
	}
	after, err := w.used(ctx, p)
	if err != nil {
		return err
	}
	for name, d := range map[string]time.Duration{
		"itself": after.process - before.process, "Postgres": after.postgres - before.postgres, "Redis": after.engine - before.engine,
	} {
		c.note("drain", name, microseconds(d)/float64(records))
	}
	c.note("drain", "WAL", (after.wal-before.wal)/float64(records))
	c.note("drain", "rate", y.rate())
	if err := w.stop(); err != nil {
		return err
	}
	if before, err = w.used(ctx, nil); err != nil {
		return err
	}
	if _, err := w.db.Exec(ctx, c.vacuum); err != nil {
		return err
	}
	if after, err = w.used(ctx, nil); err != nil {
		return err
	}
	c.note("vacuum", "Postgres", microseconds(after.postgres-before.postgres)/float64(records))
	c.note("vacuum", "WAL", (after.wal-before.wal)/float64(records))
	return nil
}

func (c *contestant) note(step, name string, value float64) { c.figures[step+": "+name] = value }

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// compareDrains adds what staging and draining cost, ours next to the plain relay's.
func (w *world) compareDrains(ours, plain map[string]float64, records int) {
	n := number(float64(records))
	compare := func(figure, unit, key, wanted string) {
		w.add(figure, unit, ours[key], plainLimit(wanted, plain[key]))
	}
	compare("stage "+n+": Postgres, CPU", "µs/record", "stage: Postgres", "ratio ≤ 1.1")
	compare("stage: WAL", "bytes/record", "stage: WAL", "")
	compare("drain "+n+": Postgres, CPU", "µs/record", "drain: Postgres", "ratio ≤ 0.9")
	compare("drain: Redis, CPU", "µs/record", "drain: Redis", "ratio ≤ 1.2")
	compare("drain: the process, CPU", "µs/record", "drain: itself", "")
	compare("drain: WAL", "bytes/record", "drain: WAL", "")
	compare("drain", "records/s", "drain: rate", "")
	compare("vacuum: Postgres, CPU", "µs/record", "vacuum: Postgres", "")
	compare("vacuum: WAL", "bytes/record", "vacuum: WAL", "")
	w.add("stage and drain: WAL", "bytes/record", ours["stage: WAL"]+ours["drain: WAL"],
		plainLimit("ratio ≤ 1.0", plain["stage: WAL"]+plain["drain: WAL"]))
}

// plainLimit is what the plain relay took, and what is wanted of ours.
func plainLimit(wanted string, value float64) limit {
	if wanted == "" {
		return limit{"plain relay", value}
	}
	return limit{"plain relay; wanted: " + wanted, value}
}
