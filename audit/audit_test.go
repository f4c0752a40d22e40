package audit_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

func balance(w *world.World, name string) audit.Balance {
	w.Helper()
	balances, err := world.Audit.Check(w.Ctx, w.DB)
	w.Must(err)
	for _, b := range balances {
		if b.Consumer == name {
			return b
		}
	}
	w.Fatal("no balance of " + name)
	return audit.Balance{}
}

func TestAuditHoldsAtEveryStation(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "0.10")
		cfg.ParkRejected = true
	})
	w.Consume(c) // registers
	zero := audit.Balance{
		Consumer: "sum", Truth: "0", Total: "0", Ahead: "0", Staged: "0", Parked: "0", Difference: "0", Agrees: true,
	}
	want := func(at string, b audit.Balance) {
		t.Helper()
		if got := balance(w, "sum"); got != b {
			t.Errorf("%s the balance is\n%+v, want\n%+v", at, got, b)
		}
	}
	want("with nothing there", zero)
	w.Commit("0.10", "2")
	b := zero
	b.Truth, b.Staged, b.Backlog = "2.10", "2.10", 2
	want("staged", b)
	w.Drain(w.Streamer())
	b.Staged, b.Backlog, b.Ahead, b.Lag = "0", 0, "2.10", 2
	want("published", b)
	w.Consume(c)
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
			w := world.SetupOnRedis(t)
			s, consumer := w.Streamer(), w.Consumer("sum")
			w.Commit("1", "2", "4")
			w.Drain(s)
			w.Consume(consumer)
			w.Commit("8")
			w.Drain(s)
			w.Commit("0.5")
			w.Exec(c.damage)
			if b := balance(w, "sum"); b.Agrees || b.Difference != c.difference {
				t.Errorf("after the damage the balance is %+v, want a difference of %s", b, c.difference)
			}
			w.Exec(`TRUNCATE amounts, sums, checkpoints, staged_log_records, log_records`)
			w.Exec(`UPDATE log_partitions SET next_offset = 1, published_offset = 0`)
		})
	}
}

func TestAuditThatCannotLook(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	broken := world.Audit
	broken.Truth = `SELECT amount FROM nowhere`
	if b, err := broken.Check(w.Ctx, w.DB); err == nil {
		t.Errorf("an audit of a table that is not there says %v", b)
	}
}

// TestAuditIsNotFooledByANewChunk plans an audit before the archive gets a
// chunk, and runs it after records have moved there.
func TestAuditIsNotFooledByANewChunk(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	c := w.Consumer("sum")
	w.Consume(c)
	w.Commit("1", "2")
	// Planning gets to this table last, and waits for its lock.
	w.Exec(`CREATE TABLE planned_last () INHERITS (dead_letters)`)
	held := w.Begin()
	_, err := held.Exec(w.Ctx, `LOCK TABLE planned_last`)
	w.Must(err)
	checked := make(chan []audit.Balance, 1)
	go func() {
		balances, err := world.Audit.Check(w.Ctx, w.DB)
		if err != nil {
			t.Error(err)
		}
		checked <- balances
	}()
	w.AwaitThat("the audit to wait for the lock", func() bool {
		return world.Query[bool](w, `SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'planned_last'::regclass)`)
	})
	w.WantCount("published", w.Drain(w.Streamer()), 2)
	w.Must(held.Commit(w.Ctx))
	if b := await.Receive(t, "the audit", checked); len(b) != 1 || !b[0].Agrees || b[0].Ahead != "3" {
		t.Errorf("the audit says %+v", b)
	}
}

// TestAuditOfPartitions starts and repairs consumers, one of which has not got to
// each partition.
func TestAuditOfPartitions(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 3)
	balance := func(name string) audit.Balance {
		t.Helper()
		balances, err := world.PartitionedAudit.Check(p.Ctx, p.DB)
		p.Must(err)
		for _, b := range balances {
			if b.Consumer == name {
				return b
			}
		}
		t.Fatal("no balance of " + name)
		return audit.Balance{}
	}
	p.Write(0, "1", "2")
	p.Write(2, "4")
	parks := func(cfg *consumer.Config) {
		cfg.Handler, cfg.ParkRejected = world.Rejecting(p.Add("sum"), func() {}, "2", "4"), true
	}
	p.Consume(p.Consumer("sum", parks))
	p.Exec(`DELETE FROM checkpoints WHERE partition = 1`) // as if it had never run since that was added
	p.Write(1, "8", "16")
	p.Write(0, "32")
	want := audit.Balance{
		Consumer: "sum", Truth: "63", Total: "1", Ahead: "56", Staged: "0", Parked: "6", Difference: "0", Agrees: true, Lag: 3,
	}
	if got := balance("sum"); got != want {
		t.Errorf("the balance is\n%+v, want\n%+v", got, want)
	}

	p.Exec(`UPDATE parts SET total = 100`)
	if was, err := world.PartitionedAudit.Reconcile(p.Ctx, p.DB, "sum"); err != nil || was.Difference != "-99" {
		t.Errorf("it was %+v, %v", was, err)
	}
	if created, err := world.PartitionedAudit.Bootstrap(p.Ctx, p.DB, "sum"); created || err != nil {
		t.Errorf("one that has checkpoints was bootstrapped: %v, %v", created, err)
	}
	if got := balance("sum"); got != want {
		t.Errorf("repaired, the balance is\n%+v, want\n%+v", got, want)
	}

	if created, err := world.PartitionedAudit.Bootstrap(p.Ctx, p.DB, "late"); !created || err != nil {
		t.Errorf("bootstrap: %v, %v", created, err)
	}
	if b := balance("late"); !b.Agrees || b.Total != "63" || b.Lag != 0 {
		t.Errorf("bootstrapped, the balance is %+v", b)
	}
	p.Grow(4) // what is added later has no history to skip
	p.Write(3, "64")
	if b := balance("late"); !b.Agrees || b.Ahead != "64" || b.Lag != 1 {
		t.Errorf("with a new partition, the balance is %+v", b)
	}
	late := p.Consumer("late", func(cfg *consumer.Config) { cfg.Handler = p.Add("late") })
	p.WantCount("applied by the new consumer", p.Consume(late), 1)
	p.Consume(p.Consumer("sum", parks))

	// Two records at offset 1 are parked now.
	p.Exec(`DELETE FROM applied`) // late begins in the middle, and this one out of its order
	letters, err := consumer.DeadLetters(p.Ctx, p.DB, "sum")
	p.Must(err)
	if len(letters) != 2 || letters[0].Partition != 0 || letters[1].Partition != 2 {
		t.Fatalf("the dead letters are %+v", letters)
	}
	if err := consumer.RetryDeadLetter(p.Ctx, p.DB, "sum", 1, 2, p.Add("sum")); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("of another partition it retried %v", err)
	}
	p.Must(consumer.RetryDeadLetter(p.Ctx, p.DB, "sum", 0, 2, p.Add("sum")))
	p.Must(consumer.DiscardDeadLetter(p.Ctx, p.DB, "sum", 2, 1))
	p.Exec(`DELETE FROM applied`)
	if b := balance("sum"); !b.Agrees || b.Parked != "4" {
		t.Errorf("with one retried and one discarded, the balance is %+v", b)
	}
}

// TestAmountThatFails: a record that a consumer rejects must not end the audit
// without a word of what to do.
func TestAmountThatFails(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	w.Consume(w.Consumer("sum"))
	w.Must(unilog.Stage(w.Ctx, w.DB, unilog.Record{Action: "note", Object: "amount", Data: []byte(`{"amount": "five"}`)}))
	_, err := world.Audit.Check(w.Ctx, w.DB)
	if err == nil || !strings.Contains(err.Error(), "no record may make the amount fail") {
		t.Errorf("it says %v", err)
	}
	lenient := world.Audit // with a comment at its end
	lenient.Amount = `CASE jsonb_typeof(data -> 'amount') WHEN 'number' THEN (data ->> 'amount')::numeric ELSE 0 END -- of numbers`
	if _, err := lenient.Check(w.Ctx, w.DB); err != nil {
		t.Errorf("with an amount that cannot fail it says %v", err)
	}
	w.Exec(`DELETE FROM staged_log_records`)
}
