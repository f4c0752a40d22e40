package unilog_test

import (
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

func balance(w *world, name string) unilog.Balance {
	w.Helper()
	balances, err := audit.Check(w.ctx, w.db)
	w.must(err)
	for _, b := range balances {
		if b.Consumer == name {
			return b
		}
	}
	w.Fatal("no balance of " + name)
	return unilog.Balance{}
}

func TestAuditHoldsAtEveryStation(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Handler = rejecting(cfg.Handler, func() {}, "0.10")
		cfg.ParkRejected = true
	})
	w.consume(c) // registers
	zero := unilog.Balance{
		Consumer: "sum", Truth: "0", Total: "0", Ahead: "0", Staged: "0", Parked: "0", Difference: "0", Agrees: true,
	}
	want := func(at string, b unilog.Balance) {
		t.Helper()
		if got := balance(w, "sum"); got != b {
			t.Errorf("%s the balance is\n%+v, want\n%+v", at, got, b)
		}
	}
	want("with nothing there", zero)
	w.commit("0.10", "2")
	b := zero
	b.Truth, b.Staged, b.Backlog = "2.10", "2.10", 2
	want("staged", b)
	w.drain(w.streamer())
	b.Staged, b.Backlog, b.Ahead, b.Lag = "0", 0, "2.10", 2
	want("published", b)
	w.consume(c)
	b.Ahead, b.Lag, b.Total, b.Parked = "0", 0, "2", "0.10"
	want("applied and parked", b)
}

func TestAuditSeesEveryKindOfDamage(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ damage, difference string }{
		"a state changed by hand": {`UPDATE sums SET total = total + 1`, "-1"},
		"a checkpoint moved":      {`UPDATE checkpoints SET "offset" = "offset" - 1`, "-4"},
		"a staged record lost":    {`DELETE FROM staged_log_records`, "0.5"},
		"an archived record lost": {`DELETE FROM log_records WHERE "offset" = 4`, "8"},
		"a write without record":  {`INSERT INTO amounts (amount) VALUES (1000)`, "1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			s, consumer := w.streamer(), w.consumer("sum")
			w.commit("1", "2", "4")
			w.drain(s)
			w.consume(consumer)
			w.commit("8")
			w.drain(s)
			w.commit("0.5")
			w.exec(c.damage)
			if b := balance(w, "sum"); b.Agrees || b.Difference != c.difference {
				t.Errorf("after the damage the balance is %+v, want a difference of %s", b, c.difference)
			}
			w.exec(`TRUNCATE amounts, sums, checkpoints, staged_log_records, log_records`)
			w.exec(`UPDATE log_partitions SET next_offset = 1, published_offset = 0`)
		})
	}
}

func TestAuditThatCannotLook(t *testing.T) {
	t.Parallel()
	w := setup(t)
	broken := audit
	broken.Truth = `SELECT amount FROM nowhere`
	if b, err := broken.Check(w.ctx, w.db); err == nil {
		t.Errorf("an audit of a table that is not there says %v", b)
	}
}

// TestAuditIsNotFooledByANewChunk plans an audit before the archive gets a
// chunk, and runs it after records have moved there.
func TestAuditIsNotFooledByANewChunk(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.consumer("sum")
	w.consume(c)
	w.commit("1", "2")
	// Planning gets to this table last, and waits for its lock.
	w.exec(`CREATE TABLE planned_last () INHERITS (dead_letters)`)
	held := w.begin()
	_, err := held.Exec(w.ctx, `LOCK TABLE planned_last`)
	w.must(err)
	checked := make(chan []unilog.Balance, 1)
	go func() {
		balances, err := audit.Check(w.ctx, w.db)
		if err != nil {
			t.Error(err)
		}
		checked <- balances
	}()
	w.awaitThat("the audit to wait for the lock", func() bool {
		return query[bool](w, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'planned_last'::regclass)`)
	})
	w.wantCount("published", w.drain(w.streamer()), 2)
	w.must(held.Commit(w.ctx))
	if b := await.Receive(t, "the audit", checked); len(b) != 1 || !b[0].Agrees || b[0].Ahead != "3" {
		t.Errorf("the audit says %+v", b)
	}
}
