package audit_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
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
		"a checkpoint moved":      {`UPDATE unilog.checkpoints SET "offset" = "offset" - 1`, "-4"},
		"a staged record lost":    {`DELETE FROM unilog.staged_records`, "0.5"},
		"an archived record lost": {`DELETE FROM unilog.batches WHERE last_offset = 4`, "8"},
		"a write without record":  {`INSERT INTO amounts (amount) VALUES (1000)`, "1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			s, consumer := w.Streamer(), w.Consumer("sum")
			w.Commit("1", "2")
			w.CommitBodies("4")
			w.Drain(s)
			w.Consume(consumer)
			w.CommitBodies("8")
			w.Drain(s)
			w.CommitBodies("0.5")
			w.Exec(c.damage)
			if b := balance(w, "sum"); b.Agrees || b.Difference != c.difference {
				t.Errorf("after the damage the balance is %+v, want a difference of %s", b, c.difference)
			}
			w.Exec(`TRUNCATE amounts, sums, unilog.checkpoints, unilog.staged_records, unilog.batches`)
			w.Exec(`UPDATE unilog.partitions SET next_offset = 1, published_offset = 0`)
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

// TestAuditOfALargeArchive sees that each record that is ahead of consumers is read once,
// however many they are.
func TestAuditOfALargeArchive(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(3, 1)
	w.FillArchive(10_000)
	w.Exec(`INSERT INTO amounts (amount) VALUES (30000)`)
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") SELECT name, partition, at FROM unilog.partitions,
		(VALUES ('a', 9990), ('b', 9990), ('c', 9995), ('d', 10000)) AS c (name, at)`)
	w.Exec(`INSERT INTO sums VALUES ('a', 29970), ('b', 29970), ('c', 29985), ('d', 30000)`)
	plan := w.Explain(audit.SQL(world.Audit))
	looks := regexp.MustCompile(`.* on batches b .*`).FindAllString(plan, -1)
	want := regexp.MustCompile(`(Index|Bitmap Heap) Scan .*on batches b \(actual rows=3(\.33)? loops=9\)`)
	if len(looks) != 1 || !want.MatchString(looks[0]) || !strings.Contains(plan, "batches_pkey") || strings.Contains(plan, "last_offset, r.n") {
		t.Errorf("want a look at the index for what is between two checkpoints, and no sort, in\n%s", plan)
	}
	for name, ahead := range map[string]int64{"a": 30, "b": 30, "c": 15, "d": 0} {
		if b := balance(w, name); !b.Agrees || b.Ahead != fmt.Sprint(ahead) || b.Lag != ahead {
			t.Errorf("the balance is %+v", b)
		}
	}
}

// TestBarriersCountNothing counts records, so that an entry of the log's own would count
// if it were taken for one.
func TestBarriersCountNothing(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	count := audit.Equation{
		Truth: `SELECT count(*) FROM amounts`, Totals: `SELECT name, count(*) FROM applied GROUP BY name`, Amount: `1`,
	}
	s, c := w.Streamer(), w.Consumer("sum")
	w.Commit("1", "1")
	w.Drain(s)
	w.Consume(c)
	s.Close()
	w.Repartition(2, 1)
	balances, err := count.Check(w.Ctx, w.DB)
	w.Must(err)
	if len(balances) != 1 || !balances[0].Agrees || balances[0].Ahead != "0" || balances[0].Lag != 2 {
		t.Errorf("before the barriers the balance is %+v", balances)
	}
	w.Exec(`DELETE FROM unilog.checkpoints WHERE partition = 1`)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 3`)
	w.Drain(s)
}

// TestAuditOfASchema audits two logs of one database, whose amounts name both schemas.
func TestAuditOfASchema(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const tenant = unilog.Schema("user")
	w.Must(migration.In(tenant).Up(w.Ctx, w.DB, migration.Log, migration.Consumer))
	w.Must(tenant.Stage(w.Ctx, w.DB, world.Record("3"), world.Record("4")))
	w.Exec(`CREATE TABLE debts (amount numeric); INSERT INTO debts VALUES (7)`)
	w.Commit("1")
	theirs := audit.Equation{
		Schema: tenant, Truth: `SELECT sum(amount) FROM debts`, Totals: `SELECT name, total FROM paid`,
		Amount:     `(data ->> 'amount')::numeric + 0 * length('unilog.')`,
		AddToTotal: `INSERT INTO paid AS p VALUES ($1, $2::text::numeric) ON CONFLICT (name) DO UPDATE SET total = p.total + excluded.total`,
	}
	w.Exec(`CREATE TABLE paid (name text PRIMARY KEY, total numeric)`)
	if created, err := theirs.Bootstrap(w.Ctx, w.DB, "clerk"); err != nil || !created {
		t.Fatalf("bootstrap: %v, %v", created, err)
	}
	w.Exec(`UPDATE paid SET total = 100`)
	if was, err := theirs.Reconcile(w.Ctx, w.DB, "clerk"); err != nil || was.Difference != "-100" {
		t.Errorf("it was %+v, %v", was, err)
	}
	balances, err := theirs.Check(w.Ctx, w.DB)
	w.Must(err)
	want := audit.Balance{
		Consumer: "clerk", Truth: "7", Total: "0", Ahead: "0", Staged: "7", Parked: "0", Difference: "0", Agrees: true, Backlog: 2,
	}
	if len(balances) != 1 || balances[0] != want {
		t.Errorf("the balances are %+v, want %+v", balances, want)
	}
	if balances, err = world.Audit.Check(w.Ctx, w.DB); err != nil || len(balances) != 0 {
		t.Errorf("the log beside it has no consumer, and balances %+v, %v", balances, err)
	}
	bad := theirs
	bad.Schema = "No"
	_, check := bad.Check(w.Ctx, w.DB)
	_, reconcile := bad.Reconcile(w.Ctx, w.DB, "clerk")
	_, bootstrap := bad.Bootstrap(w.Ctx, w.DB, "clerk")
	for _, err := range []error{check, reconcile, bootstrap} {
		if err == nil || !strings.Contains(err.Error(), "Equation.Schema: unilog: the schema's name is") {
			t.Errorf("in a schema that cannot be: %v", err)
		}
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
	p.Exec(`DELETE FROM unilog.checkpoints WHERE partition = 1`) // as if it had never run since that was added
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
	w.Exec(`DELETE FROM unilog.staged_records`)
}
