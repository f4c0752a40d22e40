package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestNothingLostDoubledOrReordered runs random interleavings of concurrent
// transactions, crashes of streamers and consumers at every hook, and losses of
// the log. The audit holds after every step; in the end each committed record
// is in the log once, in an order that respects what committed before it began,
// and all consumers have applied exactly that.
func TestNothingLostDoubledOrReordered(t *testing.T) {
	t.Parallel()
	cases := &budget{}
	cases.left.Store(60)
	for n := range 5 { // a case mostly waits for Postgres
		t.Run(fmt.Sprint("world ", n), func(t *testing.T) {
			t.Parallel()
			checkInterleavings(t, cases, []int64{1000, 1}[n%2])
		})
	}
}

// budget is how many cases several worlds check together.
type budget struct {
	left   atomic.Int64
	failed atomic.Bool
}

// take says whether there is another case to check. When one has failed, there always
// is: it is tried again to make it smaller.
func (b *budget) take() bool { return b.left.Add(-1) >= 0 || b.failed.Load() }

// checkInterleavings has streamers that walk over what is gone, or look who is at work.
func checkInterleavings(t *testing.T, cases *budget, walk int64) {
	w := world.SetupOnRedis(t)
	rapid.Check(t, func(rt *rapid.T) {
		if !cases.take() {
			return
		}
		defer func() {
			if rt.Failed() {
				cases.failed.Store(true)
			}
		}()
		m := newModel(w, rt, walk)
		defer m.abandon()
		rt.Repeat(map[string]func(*rapid.T){
			"":              func(*rapid.T) { m.CheckAudit() },
			"begin":         m.beginOne,
			"note":          m.noteOne,
			"commit":        m.commitOne,
			"roll back":     m.rollbackOne,
			"stream":        m.streamOne,
			"look after":    m.upkeepOne,
			"resign":        func(rt *rapid.T) { m.pickStreamer(rt).Close() },
			"consume":       m.consumeOne,
			"wipe the log":  func(*rapid.T) { m.Wipe() },
			"lose the tail": func(rt *rapid.T) { m.LoseTail(rapid.IntRange(1, 5).Draw(rt, "keep")) },
			"trim too much": func(rt *rapid.T) {
				m.Command("XTRIM", m.Stream, "MAXLEN", rapid.StringMatching("[0-3]").Draw(rt, "keep"))
			},
			"crash a streamer": func(rt *rapid.T) { m.streamerFault = rapid.SampledFrom(streamerFaults).Draw(rt, "after") },
			"crash a consumer": func(*rapid.T) { m.consumerFault = true },
		})
		m.finish()
	})
}

var streamerFaults = []string{"numbering", "a part of the append", "the append"}

// model knows what must come out.
type model struct {
	world.World
	clock     int
	open      []*transaction
	committed []*transaction
	amounts   int

	streamers     []*streamer.Streamer
	consumers     []*consumer.Consumer
	streamerFault string
	consumerFault bool
}

type transaction struct {
	pgx.Tx
	began, committed int
	amounts          []string
}

// sqlBehindHead counts the consumers that have not applied all.
const sqlBehindHead = `
SELECT count(*) FROM unnest($1::text[]) AS name CROSS JOIN unilog.partitions AS p LEFT JOIN unilog.checkpoints AS c USING (name, partition)
WHERE coalesce(c."offset", 0) < next_offset - 1`

func newModel(w *world.World, rt *rapid.T, walk int64) *model {
	m := &model{World: *w}
	m.TB = rt
	m.Exec(`TRUNCATE amounts, sums, applied, unilog.staged_records, unilog.batches, unilog.checkpoints`)
	m.Exec(`UPDATE unilog.partitions SET next_offset = 1, published_offset = 0`)
	m.Wipe()
	fault := func(where string) func(context.Context, []unilog.Entry) error {
		return func(context.Context, []unilog.Entry) error {
			if m.streamerFault != where {
				return nil
			}
			m.streamerFault = ""
			return unilog.ErrSimulated
		}
	}
	for range 2 {
		m.streamers = append(m.streamers, m.Streamer(func(cfg *streamer.Config) {
			*cfg = streamer.WithWalk(streamer.WithAppendRecords(*cfg, 2), walk)
			cfg.BatchRecords, cfg.KeepRecords = 3, 4
			cfg.Hooks = streamer.Hooks{
				AfterNumber: fault(streamerFaults[0]), MidAppend: fault(streamerFaults[1]), AfterAppend: fault(streamerFaults[2]),
			}
		}))
	}
	for _, name := range consumerNames { // one of them runs twice
		m.consumers = append(m.consumers, m.Consumer(name, func(cfg *consumer.Config) {
			cfg.BatchRecords = 4
			cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
				if !m.consumerFault {
					return nil
				}
				m.consumerFault = false
				return unilog.ErrSimulated
			}
		}))
	}
	return m
}

var consumerNames = []string{"one", "one", "two"}

// abandon ends what a case has left open, however it ended.
func (m *model) abandon() {
	for _, tx := range m.open {
		_ = tx.Rollback(m.Ctx)
	}
	for _, s := range m.streamers {
		s.Close()
	}
}

func (m *model) tick() int {
	m.clock++
	return m.clock
}

func (m *model) beginOne(rt *rapid.T) {
	if len(m.open) == 4 {
		rt.Skip("enough are open")
	}
	tx, err := m.DB.Begin(m.Ctx)
	m.Must(err)
	m.open = append(m.open, &transaction{Tx: tx, began: m.tick()})
}

// pick draws one of the open transactions.
func (m *model) pick(rt *rapid.T) int {
	if len(m.open) == 0 {
		rt.Skip("none is open")
	}
	return rapid.IntRange(0, len(m.open)-1).Draw(rt, "transaction")
}

func (m *model) noteOne(rt *rapid.T) {
	tx := m.open[m.pick(rt)]
	for range rapid.IntRange(1, 4).Draw(rt, "records") {
		m.amounts++
		amount := strconv.Itoa(m.amounts) // names the record, too
		tx.amounts = append(tx.amounts, amount)
		if rapid.Bool().Draw(rt, "as bytes") {
			m.NoteBodies(tx, amount)
		} else {
			m.Note(tx, amount)
		}
	}
}

func (m *model) commitOne(rt *rapid.T) { m.commitAt(m.pick(rt)) }

func (m *model) commitAt(i int) {
	tx := m.open[i]
	m.Must(tx.Commit(m.Ctx))
	tx.committed = m.tick()
	m.committed = append(m.committed, tx)
	m.open = slices.Delete(m.open, i, i+1)
}

func (m *model) rollbackOne(rt *rapid.T) {
	i := m.pick(rt)
	m.Must(m.open[i].Rollback(m.Ctx))
	m.open = slices.Delete(m.open, i, i+1)
}

func (m *model) pickStreamer(rt *rapid.T) *streamer.Streamer {
	return rapid.SampledFrom(m.streamers).Draw(rt, "streamer")
}

func (m *model) streamOne(rt *rapid.T) {
	_, err := m.pickStreamer(rt).RunOnce(m.Ctx)
	m.allow(err)
}

func (m *model) upkeepOne(rt *rapid.T) {
	s := m.pickStreamer(rt)
	if s.Leads() {
		m.allow(s.Upkeep(m.Ctx))
	}
}

func (m *model) consumeOne(rt *rapid.T) {
	_, err := rapid.SampledFrom(m.consumers).Draw(rt, "consumer").RunOnce(m.Ctx)
	m.allow(err)
}

// allow passes over the errors that belong to the game.
func (m *model) allow(err error) {
	m.Helper()
	if !errors.Is(err, unilog.ErrSimulated) && !errors.Is(err, unilog.ErrStandby) && !world.IsSlow(err) {
		m.Must(err)
	}
}

// finish lets everything end well and checks what came out.
func (m *model) finish() {
	for len(m.open) > 0 {
		m.commitAt(0)
	}
	m.streamerFault, m.consumerFault = "", false
	for _, s := range m.streamers[1:] {
		s.Close()
	}
	leader := m.streamers[0]
	m.Drain(leader)
	upkeep(&m.World, leader)
	m.Drain(leader)
	for _, c := range m.consumers { // who waits reads what was trimmed from the archive
		defer m.Consumes(c)()
	}
	world.AwaitQuery(&m.World, "consumers that are behind", 0, sqlBehindHead, consumerNames)
	m.CheckArchive()
	m.CheckLog()
	m.CheckAudit()
	m.checkLog()
	for _, name := range consumerNames {
		m.checkApplied(name)
	}
}

// checkLog sees that the log holds what was committed, once, in an order that
// respects commits before begins.
func (m *model) checkLog() {
	at := map[string]int{}
	for i, amount := range m.column(`SELECT ` + world.SQLAmount + ` FROM unilog.records ORDER BY "offset"`) {
		if _, ok := at[amount]; ok {
			m.Errorf("record %s is in the log twice", amount)
		}
		at[amount] = i
	}
	n := 0
	for _, tx := range m.committed {
		for i, amount := range tx.amounts {
			n++
			if _, ok := at[amount]; !ok {
				m.Errorf("record %s was committed and is not in the log", amount)
			}
			if i > 0 && at[amount] < at[tx.amounts[i-1]] {
				m.Errorf("record %s comes before %s, which its transaction staged first", amount, tx.amounts[i-1])
			}
			m.checkAfter(at, amount, tx)
		}
	}
	if n != len(at) {
		m.Errorf("the log holds %d records, %d were committed", len(at), n)
	}
}

func (m *model) checkAfter(at map[string]int, amount string, tx *transaction) {
	for _, earlier := range m.committed {
		if earlier.committed > tx.began {
			continue
		}
		for _, before := range earlier.amounts {
			if at[before] > at[amount] {
				m.Errorf("record %s comes before %s, whose transaction had committed before its own began", amount, before)
			}
		}
	}
}

func (m *model) checkApplied(name string) {
	log := m.column(`SELECT ` + world.SQLAmount + ` FROM unilog.records ORDER BY "offset"`)
	if applied := m.column(`SELECT data ->> 'amount' FROM applied WHERE name = $1 ORDER BY n`, name); !slices.Equal(applied, log) {
		m.Errorf("%s applied %v, the log holds %v", name, applied, log)
	}
	m.WantTotal(name, fmt.Sprint(world.Query[int](&m.World, `SELECT coalesce(sum(amount), 0)::int FROM amounts`)))
}

func (m *model) column(sql string, args ...any) []string {
	m.Helper()
	rows, err := m.DB.Query(m.Ctx, sql, args...)
	m.Must(err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	m.Must(err)
	return values
}
