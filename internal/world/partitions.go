package world

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
)

// Partitioned is a world of several partitions, which the test itself writes to.
type Partitioned struct {
	*World
	number  int
	running atomic.Int64 // processes
	frozen  bool
}

// Consumers keep their sums by partition, so that partitions do not wait for each
// other.
const sqlPartitioned = `
DROP TABLE sums, applied;
CREATE TABLE parts (name text, partition integer, total numeric NOT NULL, PRIMARY KEY (name, partition));
CREATE VIEW sums AS SELECT name, sum(total) AS total FROM parts GROUP BY name;
CREATE TABLE applied (
    n bigint GENERATED ALWAYS AS IDENTITY,
    name text, partition integer, "offset" bigint,
    PRIMARY KEY (name, partition, "offset")
);`

var PartitionedAudit = audit.Equation{
	Truth: Audit.Truth, Totals: Audit.Totals, Amount: Audit.Amount,
	AddToTotal: `
		INSERT INTO parts AS s VALUES ($1, 0, $2::text::numeric)
		ON CONFLICT (name, partition) DO UPDATE SET total = s.total + excluded.total`,
}

// SetupPartitions makes one whose log is in memory; see [Setup].
func SetupPartitions(t *testing.T, number int) *Partitioned {
	t.Helper()
	return partitioned(t, Setup(t), number)
}

// SetupPartitionsOnRedis makes one whose log is in Redis.
func SetupPartitionsOnRedis(t *testing.T, number int) *Partitioned {
	t.Helper()
	return partitioned(t, SetupOnRedis(t), number)
}

func partitioned(t *testing.T, w *World, number int) *Partitioned {
	t.Helper()
	p := &Partitioned{World: w}
	p.Exec(sqlPartitioned)
	p.Grow(number)
	t.Cleanup(func() {
		p.Ctx = context.Background()
		if !t.Failed() {
			p.checkPartitions()
		}
		p.Exec(`DELETE FROM unilog.batches WHERE partition > 0`) // the world's own check knows one
	})
	return p
}

// Grow adds partitions.
func (p *Partitioned) Grow(number int) {
	p.Helper()
	p.Exec(`INSERT INTO unilog.partitions (partition) SELECT generate_series(0, $1 - 1) ON CONFLICT DO NOTHING`, number)
	p.Exec(`UPDATE unilog.log SET partitions = $1`, number)
	p.number = number
	for n := range number {
		_, err := p.Log.Claim(p.Ctx, p.term(n))
		p.Must(err)
	}
}

func (p *Partitioned) term(partition int) unilog.Term {
	p.Helper()
	return unilog.Term{
		Partition: partition, Partitions: p.number, Epoch: 1,
		LogID: Query[string](p.World, `SELECT log_id::text FROM unilog.log`),
	}
}

// Write writes amounts, numbers their records and publishes them.
func (p *Partitioned) Write(partition int, amounts ...string) {
	p.Helper()
	var entries []unilog.Entry
	p.Must(pgx.BeginFunc(p.Ctx, p.DB, func(tx pgx.Tx) error {
		var next int64
		err := tx.QueryRow(p.Ctx, `UPDATE unilog.partitions SET next_offset = next_offset + $2 WHERE partition = $1 RETURNING next_offset - $2`,
			partition, len(amounts)).Scan(&next)
		if err != nil {
			return err
		}
		for i, a := range amounts {
			e := unilog.Entry{
				Partition: partition, Offset: next + int64(i), StagedAt: time.Now().UTC().Truncate(time.Microsecond),
				Record: unilog.Record{Action: "note", Object: "amount", Data: json.RawMessage(`{"amount": ` + a + `}`)},
			}
			if _, err := tx.Exec(p.Ctx, `INSERT INTO amounts (amount) VALUES ($1::text::numeric)`, a); err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return Archive(p.Ctx, tx, entries)
	}))
	head, err := p.Log.Append(p.Ctx, p.term(partition), entries)
	p.Must(err)
	p.Exec(`UPDATE unilog.partitions SET published_offset = $2 WHERE partition = $1`, partition, head)
}

// WriteAll writes an amount of 1 to each partition.
func (p *Partitioned) WriteAll() {
	p.Helper()
	for partition := range p.number {
		p.Write(partition, "1")
	}
}

// Add is the consumers' handler.
func (p *Partitioned) Add(name string) consumer.Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		for _, e := range entries {
			if e.Partition != entries[0].Partition {
				return fmt.Errorf("entries of partitions %d and %d came together", entries[0].Partition, e.Partition)
			}
			_, err := tx.Exec(ctx, `INSERT INTO applied (name, partition, "offset") VALUES ($1, $2, $3)`, name, e.Partition, e.Offset)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `
				INSERT INTO parts AS s VALUES ($1, $2, ($3::jsonb ->> 'amount')::numeric)
				ON CONFLICT (name, partition) DO UPDATE SET total = s.total + excluded.total`, name, e.Partition, e.Data)
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// checkPartitions sees that all consumers have applied each partition in its
// order, and that their sums are exact.
func (p *Partitioned) checkPartitions() {
	p.Helper()
	p.CheckAudit()
	p.WantCount("applied out of order", Query[int](p.World, `
		SELECT count(*) FROM (
			SELECT "offset" - lag("offset", 1, 0::bigint) OVER (PARTITION BY name, partition ORDER BY n) AS step FROM applied
		) AS a WHERE step <> 1`), 0)
}

// AwaitApplied waits until a consumer has applied all partitions.
func (p *Partitioned) AwaitApplied(name string) {
	p.Helper()
	AwaitQuery(p.World, "what "+name+" has not applied", "", `
		SELECT coalesce(string_agg(format('partition %s is at %s of %s', p.partition, c."offset", p.next_offset - 1), ', '), '')
		FROM unilog.partitions AS p LEFT JOIN unilog.checkpoints AS c ON c.name = $1 AND c.partition = p.partition
		WHERE coalesce(c."offset", 0) <> p.next_offset - 1`, name)
}

// FreezeClock lets the database's clock, by which members are alive, stand still but
// for [Partitioned.Advance], and for pace: then nobody is taken for dead because the machine
// is slow. Processes that run already do not notice.
func (p *Partitioned) FreezeClock() {
	p.Helper()
	p.frozen = true
	p.Exec(`
		CREATE SCHEMA fake;
		CREATE TABLE fake.clock AS SELECT now();
		CREATE FUNCTION fake.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now FROM fake.clock';
		ALTER TABLE unilog.members ALTER seen_at SET DEFAULT fake.clock_timestamp();
		DO $$ BEGIN
			EXECUTE format('ALTER DATABASE %I SET search_path = fake, public, pg_catalog', current_database());
		END $$`)
	p.DB.Reset()
}

// Advance sets the frozen clock forward.
func (p *Partitioned) Advance(d time.Duration) {
	p.Helper()
	p.Exec(`UPDATE fake.clock SET now = now + make_interval(secs => $1)`, d.Seconds())
}

// pace lets a frozen clock go on, less than a lease lasts, if all processes that run have
// renewed their leases at it. So one that has ended without a word, or whose last words come
// after its end, does not live for ever. Members that are rows only would not keep up.
func (p *Partitioned) pace() {
	p.Helper()
	if p.frozen {
		p.Exec(`
			UPDATE fake.clock SET now = now + interval '0.7 s'
			WHERE (SELECT count(*) FROM unilog.members WHERE seen_at >= now) >= $1
				AND NOT EXISTS (SELECT FROM unilog.members WHERE length(member) < 20)`, p.running.Load())
	}
}

func (p *Partitioned) Process(change ...func(*consumer.Config)) *Process {
	p.Helper()
	m := &Process{p: p}
	var err error
	m.Postgres, err = proxy.For(p.DB.Config().ConnString())
	p.Must(err)
	p.Cleanup(m.Postgres.Close)
	config, err := pgxpool.ParseConfig(m.Postgres.URL())
	p.Must(err)
	config.MaxConns = 12
	m.DB, err = pgxpool.NewWithConfig(p.Ctx, config)
	p.Must(err)
	testenv.ClosePool(p, m.DB)
	p.Cleanup(func() { Heal(m.Postgres) }) // so that closing has nothing to wait for
	m.Consumer = p.Consumer("sum", append([]func(*consumer.Config){func(cfg *consumer.Config) {
		cfg.DB, cfg.Archive, cfg.Handler = m.DB, m.DB, p.Add("sum")
		cfg.Observer = consumer.Observer{}.And(consumer.Observer{Leases: func(partitions []int) {
			m.Changes.Add(1)
			m.leases.Store(&partitions) // who sees them has counted the change
		}})
	}}, change...)...)
	return m
}

// Run runs a new process.
func (p *Partitioned) Run(change ...func(*consumer.Config)) *Process {
	p.Helper()
	m := p.Process(change...)
	m.Start()
	return m
}

// shares are how many leases each member has, in order, of those that were seen
// lately. A renewal that was on its way when its process left may come after it.
func (p *Partitioned) shares() string {
	p.Helper()
	return Query[string](p.World, `
		SELECT coalesce(string_agg(n::text, ' ' ORDER BY n), '')
		FROM (SELECT count(l.*) AS n FROM unilog.members AS m LEFT JOIN unilog.leases AS l USING (name, member)
			WHERE m.seen_at > clock_timestamp() - interval '2 s' GROUP BY m.member) AS s`)
}

func (p *Partitioned) AwaitShares(want string) {
	p.Helper()
	AwaitEqual(p.World, "the numbers of leases", want, func() string {
		got := p.shares()
		if got != want {
			p.pace()
		}
		return got
	})
}
