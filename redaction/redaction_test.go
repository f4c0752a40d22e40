package redaction_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/redaction"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/switchlog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// note writes amounts of 1 whose records have a secret in each part that can have one.
// Every fourth has a body.
func note(w *world.World, n int) {
	w.Helper()
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		for i := range n {
			if _, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) VALUES (1)`); err != nil {
				return err
			}
			r := unilog.Record{
				Action: "note", Object: "amount", Key: "secret key", Data: json.RawMessage(`{"amount":1,"name":"secret"}`),
				Headers: map[string]string{"trace": "secret trace"},
			}
			if i%4 == 3 {
				r.Data, r.Body, r.ContentType = nil, []byte("\x00\x801"), "application/x-secret"
			}
			if err := unilog.Stage(w.Ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	}))
}

func awaitPublished(w *world.World, n int) {
	w.Helper()
	w.AwaitTrue(fmt.Sprint(n, " to be published"), `SELECT published_offset = $1 FROM unilog.partitions WHERE partition = 0`, n)
}

// gather is a consumer in a database of its own that has the log alone.
func gather(w, elsewhere *world.World, into *[]unilog.Entry) *consumer.Consumer {
	return w.Consumer("elsewhere", func(cfg *consumer.Config) {
		cfg.DB, cfg.Archive = elsewhere.DB, nil
		cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			*into = append(*into, entries...)
			return nil
		}
	})
}

// wantRedacted sees that of so many entries those at some offsets are replaced, and no other.
func wantRedacted(w *world.World, what string, entries []unilog.Entry, n int, offsets ...int64) {
	w.Helper()
	w.WantCount(what, len(entries), n)
	for i, e := range entries {
		if e.Offset != int64(i+1) {
			w.Errorf("%s: entry number %d has offset %d", what, i, e.Offset)
		}
		secrets := strings.Count(fmt.Sprint(e.Key, string(e.Data), e.ContentType, e.Headers), "secret")
		if slices.Contains(offsets, e.Offset) {
			if string(e.Data) != `{"redacted": true}` || len(e.Headers) > 0 || secrets > 0 {
				w.Errorf("%s: offset %d is %s", what, e.Offset, e.Data)
			}
		} else if secrets != 3 {
			w.Errorf("%s: offset %d has lost something: %+v", what, e.Offset, e)
		}
	}
}

// redacts redacts two of thirty records that a consumer has applied, while a streamer runs.
// The test has the log of its own, and gives it only if it is not the archive.
func redacts(w, elsewhere *world.World, own, log unilog.Log) {
	w.Helper()
	w.Runs()
	note(w, 30)
	awaitPublished(w, 30)
	w.WantCount("applied before", w.Consume(w.Consumer("before")), 30)
	var read []unilog.Entry
	half := gather(w, elsewhere, &read)
	w.WantCount("read elsewhere", w.Consume(half), 30)

	places := []redaction.Place{{Offset: 20}, {Offset: 2}, {Offset: 2}}
	report, err := redact(w, log, places, redaction.Order{Reason: "asked for", EraseKey: true})
	w.Must(err)
	w.WantCount("redacted in the archive", report.Archived, 2)
	if (log != nil) != slices.Equal(report.Emptied, []int{0}) {
		w.Errorf("emptied are the logs of partitions %v", report.Emptied)
	}
	w.WantCount("secrets in the archive", world.Query[int](w, `
		SELECT sum((length(t) - length(replace(t, 'secret', ''))) / 6)::int
		FROM (SELECT array_to_string(key || data || headers || content_type, ' ') AS t FROM unilog.batches) AS b`), 3*28)
	if got := world.Query[string](w, `SELECT string_agg(format('%s/%s %s %s', partition, "offset", reason, redacted_by = session_user), ', ' ORDER BY "offset") FROM unilog.redactions`); got != "0/2 asked for t, 0/20 asked for t" {
		w.Errorf("the table of redactions has %s", got)
	}

	note(w, 5)
	awaitPublished(w, 35)
	w.WantCount("applied after", w.Consume(w.Consumer("before")), 5)
	w.WantTotal("before", "35")
	w.CheckAudit()
	w.WantCount("read elsewhere after", w.Consume(half), 5)
	wantRedacted(w, "who has read before", read, 35)
	entries, err := own.Read(w.Ctx, 0, unilog.Cursor{}, 100, 0)
	w.Must(err)
	wantRedacted(w, "the log", entries, 35, 2, 20)
	// Who begins later finds no gap.
	elsewhere.Exec(`DELETE FROM unilog.checkpoints`)
	read = nil
	w.Consume(gather(w, elsewhere, &read))
	wantRedacted(w, "who reads after", read, 35, 2, 20)
}

func TestRedactOnRedis(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	own := ownLog(t, w)
	redacts(w, world.StateElsewhere(t), own, own)
	if raw := fmt.Sprint(w.Command("XRANGE", w.Stream, "2-0", "2-0").ToAny()); strings.Contains(raw, "secret") {
		t.Errorf("the stream has %s", raw)
	}
}

func TestRedactWithPostgresAlone(t *testing.T) {
	t.Parallel()
	w := world.Bare(t, testenv.Database(t, "world", world.MigrateWorld))
	log, err := pglog.Open(w.Ctx, w.DB, "")
	w.Must(err)
	t.Cleanup(log.Close)
	w.Log = log
	redacts(w, world.StateElsewhere(t), log, nil)
}

func TestRedactOnKafka(t *testing.T) {
	t.Parallel()
	w := world.Bare(t, testenv.Database(t, "world", world.MigrateWorld))
	log, err := kafkalog.Open(w.Ctx, "kafka://"+testenv.SharedKafka(t)+"/"+testenv.StreamName(t))
	w.Must(err)
	t.Cleanup(log.Close)
	w.Log = log
	redacts(w, world.StateElsewhere(t), log, log)
}

// TestRedactWhileALogIsRebuilt redacts a record that a leader has just read from the
// archive, and is about to publish again. It is refused, and the next one reads anew.
func TestRedactWhileALogIsRebuilt(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Runs()
	note(w, 10)
	awaitPublished(w, 10)
	w.Consume(w.Consumer("before"))
	holds, release := make(chan struct{}), make(chan struct{})
	held := false
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Append" && !held {
			held = true
			close(holds)
			<-release
			return do(context.WithoutCancel(ctx))
		}
		return do(ctx)
	})
	w.Wipe()
	world.Receive(w, "the leader to publish again", holds)
	_, err := redact(w, w.Log, []redaction.Place{{Offset: 7}}, redaction.Order{Reason: "asked for", EraseKey: true})
	w.Must(err)
	close(release)
	w.AwaitEntries(10)
	wantRedacted(w, "the log", w.Memory.Entries(0), 10, 7)
}

// TestRedactRefuses has what must not be redacted, or not yet. Nothing has changed then.
func TestRedactRefuses(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Runs()
	note(w, 5)
	awaitPublished(w, 5)
	w.Repartition(2, 1)
	awaitPublished(w, 6)
	redacts := func(change func(*redaction.Order), offsets ...int64) (redaction.Report, error) {
		var places []redaction.Place
		for _, offset := range offsets {
			places = append(places, redaction.Place{Offset: offset})
		}
		order := redaction.Order{Reason: "asked for"}
		change(&order)
		return redact(w, nil, places, order)
	}
	as := func(*redaction.Order) {}
	refused := func(says string, change func(*redaction.Order), offsets ...int64) {
		t.Helper()
		if _, err := redacts(change, offsets...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("offsets %v: %v, want %q", offsets, err, says)
		}
		w.WantCount("secrets", world.Query[int](w, `SELECT count(*) FROM unilog.records WHERE coalesce(data::text, content_type) LIKE '%secret%'`), 5)
		w.WantCount("redactions", world.Query[int](w, `SELECT count(*) FROM unilog.redactions`), 0)
	}
	refused("Order.Reason is required", func(o *redaction.Order) { o.Reason = "" }, 1)
	refused("there is no offset 7 in partition 0 yet: the head is 6", as, 1, 7)
	refused("offset 6 of partition 0 is an entry of the log's own", as, 1, 6)
	w.Exec(`INSERT INTO unilog.places (generation, url, final) VALUES (1, 'redis://elsewhere', false)`)
	refused("a move of the log is not finished", as, 1)
	w.Exec(`DELETE FROM unilog.places WHERE generation = 1`)
	refused("invalid input syntax for type json", func(o *redaction.Order) { o.Replacement = json.RawMessage(`{`) }, 1)

	c := w.Consumer("slow", func(cfg *consumer.Config) {
		cfg.ParkRejected = true
		cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			return fmt.Errorf("no such name: %s", entries[0].Data)
		}
	})
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('slow', 0, 2)`)
	var unapplied *redaction.UnappliedError
	if _, err := redacts(as, 2, 3); !errors.As(err, &unapplied) || unapplied.Consumer != "slow" || unapplied.Offset != 3 || unapplied.Checkpoint != 2 || unapplied.Parked {
		t.Errorf("of who has not applied it: %v", err)
	}
	w.Consume(c)
	refused("consumer slow has parked offset 3 of partition 0", as, 3)

	report, err := redacts(func(o *redaction.Order) { o.Unapplied, o.EraseKey = true, true }, 2, 3)
	w.Must(err)
	w.WantCount("archived", report.Archived, 2)
	w.WantCount("parked", report.Parked, 1)
	if got := world.Query[string](w, `SELECT concat_ws(' ', key, data, headers, error) FROM unilog.dead_letters WHERE "offset" = 3`); got != ` {"redacted": true} {} redacted` {
		t.Errorf("the dead letter has %s", got)
	}
	if got := world.Query[string](w, `SELECT string_agg("offset" || ' ' || unapplied::text, ' ' ORDER BY "offset") FROM unilog.redactions`); got != "2 {} 3 {slow}" {
		t.Errorf("without it are %s", got)
	}
	w.Exec(`DELETE FROM unilog.dead_letters; DELETE FROM unilog.checkpoints; DELETE FROM unilog.batches WHERE partition > 0`) // the audit is of no consumer
}

// faulty is a log whose calls may fail, or wait.
type faulty struct {
	unilog.Log
	reset error
	holds chan struct{} // what is appended, until it is closed
}

func (f *faulty) Reset(ctx context.Context, term unilog.Term, head int64) error {
	if f.reset != nil {
		return f.reset
	}
	return f.Log.Reset(ctx, term, head)
}

func (f *faulty) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	<-f.holds
	return f.Log.Append(context.WithoutCancel(ctx), term, entries)
}

// TestRedactionIsFinishedByTheNext has a log that fails once the archive is redacted, keys
// and all. Whoever redacts next finishes that, though no search finds those records.
func TestRedactionIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Runs()
	note(w, 10)
	awaitPublished(w, 10)
	w.Consume(w.Consumer("before"))
	order := redaction.Order{Reason: "asked for", EraseKey: true}
	own := ownLog(t, w)
	fails := &faulty{Log: own, reset: errors.New("the log has failed")}
	if _, err := redact(w, fails, []redaction.Place{{Offset: 7}}, order); !errors.Is(err, fails.reset) {
		t.Fatal(err)
	}
	report, err := redact(w, own, nil, order)
	w.Must(err)
	if !slices.Equal(report.Emptied, []int{0}) {
		t.Errorf("emptied are the logs of partitions %v", report.Emptied)
	}
	w.AwaitEntries(10) // which a redaction that came too late has not waited for
	entries, err := own.Read(w.Ctx, 0, unilog.Cursor{}, 100, 0)
	w.Must(err)
	wantRedacted(w, "the log", entries, 10, 7)
	if report, err = redact(w, own, nil, order); err != nil || len(report.Emptied) > 0 {
		t.Errorf("once more: %+v, %v", report, err)
	}
}

// TestRedactRefusesAllOfIt has more than a transaction's records, of which a consumer has
// not applied the last one.
func TestRedactRefusesAllOfIt(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Runs()
	note(w, 102)
	awaitPublished(w, 102)
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('slow', 0, 101)`)
	var places []redaction.Place
	for offset := range int64(102) {
		places = append(places, redaction.Place{Offset: offset + 1})
	}
	_, err := redact(w, w.Log, places, redaction.Order{Reason: "asked for"})
	if unapplied := new(redaction.UnappliedError); !errors.As(err, &unapplied) || unapplied.Offset != 102 {
		t.Errorf("it says %v", err)
	}
	w.WantCount("redactions", world.Query[int](w, `SELECT count(*) FROM unilog.redactions`), 0)
	w.Exec(`DELETE FROM unilog.checkpoints`) // the audit is of no consumer
}

// TestRedactDeadLettersElsewhere runs what docs/log.md says of a database that has no log,
// on a record with data and on one with a body.
func TestRedactDeadLettersElsewhere(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "`UPDATE unilog.dead_letters")
	statement, _, ok := strings.Cut(after, "`")
	if !ok {
		t.Fatal("docs/log.md has no such statement")
	}
	w := world.StateElsewhere(t)
	w.Exec(`INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, body, content_type, headers, error)
		VALUES ('c', 0, 1, now(), 'a', 'o', '', '{"secret": 1}', NULL, NULL, '{"h": "secret"}', 'secret'),
			('c', 0, 2, now(), 'a', 'o', '', NULL, 'secret', 'x/secret', '{}', 'secret')`)
	for _, offset := range []string{"1", "2"} {
		w.Exec("UPDATE unilog.dead_letters" + strings.Replace(strings.Replace(statement, "…", "0", 1), "…", offset, 1))
	}
	w.WantCount("secrets", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters AS d WHERE d::text LIKE '%secret%' OR body IS NOT NULL`), 0)
}

// TestMoveToALogFromBefore redacts what a log has that was copied before, and copies again.
func TestMoveToALogFromBefore(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Runs()
	note(w, 10)
	awaitPublished(w, 10)
	w.Consume(w.Consumer("before"))
	to, err := redislog.Open(w.Ctx, testenv.PatientRedis(testenv.SharedRedis(t)), testenv.StreamName(t))
	w.Must(err)
	t.Cleanup(to.Close)
	copies := func(want int) {
		t.Helper()
		n, err := switchlog.Copy(w.Ctx, w.DB, "", to, switchlog.Keep{Records: 100})
		w.Must(err)
		w.WantCount("copied", int(n), want)
	}
	copies(10)
	_, err = redact(w, ownLog(t, w), []redaction.Place{{Offset: 3}}, redaction.Order{Reason: "asked for", EraseKey: true})
	w.Must(err)
	note(w, 5)
	awaitPublished(w, 15)
	w.Consume(w.Consumer("before"))
	copies(15)
	copies(0)
	entries, err := to.Read(w.Ctx, 0, unilog.Cursor{}, 100, 0)
	w.Must(err)
	wantRedacted(w, "the new log", entries, 15, 3)
}

// TestRedactWhileTheLogMoves begins to redact before a move, and comes to the archive after it.
func TestRedactWhileTheLogMoves(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	holds := &faulty{Log: w.Log, holds: make(chan struct{})}
	w.Log = holds
	w.Runs()
	note(w, 3)
	w.AwaitTrue("3 to be numbered", `SELECT next_offset = 4 FROM unilog.partitions WHERE partition = 0`)
	ended := make(chan error, 1)
	go func() {
		_, err := redaction.Redact(w.Ctx, w.DB, "", w.Log, []redaction.Place{{Offset: 2}}, redaction.Order{Reason: "asked for"})
		ended <- err
	}()
	w.AwaitTrue("it to wait", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT next_offset - 1, published_offset%' AND datname = current_database())`)
	w.Exec(`INSERT INTO unilog.places (generation, url, final) VALUES (1, 'redis://elsewhere', false)`)
	close(holds.holds)
	if err := world.Receive(w, "it to be refused", ended); err == nil || !strings.Contains(err.Error(), "a move of the log is not finished") {
		t.Errorf("it says %v", err)
	}
	w.WantCount("redactions", world.Query[int](w, `SELECT count(*) FROM unilog.redactions`), 0)
	w.Exec(`DELETE FROM unilog.places WHERE generation = 1`)
}
