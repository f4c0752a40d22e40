package endtoend_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestDatabaseRestoredToAnEarlierTime puts a copy of a server's files back, and
// then does what the errors say.
func TestDatabaseRestoredToAnEarlierTime(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	data := filepath.Join(server.Options().Dir, "data")
	backup := data + ".backup"
	restart := func(change func()) {
		w.Must(server.Stop(w.Ctx))
		change()
		server = testenv.Restart(t, server)
		w.DB.Reset()
	}
	// One consumer has its state in the database that is restored, one elsewhere.
	elsewhere := *w
	elsewhere.DB = testenv.Database(t, "world", world.MigrateWorld)
	here := func() *consumer.Consumer { return w.Consumer("here") }
	there := func() *consumer.Consumer {
		return w.Consumer("there", func(cfg *consumer.Config) { cfg.DB = elsewhere.DB })
	}
	w.CommitMany(5)
	w.StreamAll()
	w.Consume(here())
	w.Consume(there())
	w.CommitMany(3) // staged, and neither numbered nor published
	restart(func() { w.Run("cp", "-a", data, backup) })
	for range 7 { // terms, each with a later epoch
		w.Commit("1")
		w.StreamAll()
	}
	w.Consume(here())
	w.Consume(there())
	w.WantTotal("here", "15")
	restart(func() {
		w.Must(os.RemoveAll(data))
		w.Must(os.Rename(backup, data))
	})

	w.CommitMany(4) // by writers, who know of nothing
	var ahead *unilog.LogAheadError
	if err := w.Streamer().Run(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 15 || ahead.Database != 5 {
		t.Fatalf("the streamer says %v, want the heads 15 and 5", err)
	}
	// The log still has records that the database has not.
	ahead = nil
	if n, err := here().RunOnce(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 15 || ahead.Database != 5 {
		t.Fatalf("the consumer that was restored applied %d and says %v, want the heads 15 and 5", n, err)
	}
	var consumerAhead *unilog.CheckpointAheadError
	if err := there().Run(w.Ctx); !errors.As(err, &consumerAhead) || consumerAhead.Checkpoint != 15 || consumerAhead.Database != 5 {
		t.Errorf("the consumer elsewhere says %v, want it to be at 15, ahead of 5", err)
	}

	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var waiting errgroup.Group
	waiting.Go(func() error { return here().Run(ctx) })

	// The way out that the messages give, the consumer's restore first.
	elsewhere.Exec(`DELETE FROM applied WHERE "offset" > 5`)
	elsewhere.Exec(`UPDATE sums SET total = 5`)
	elsewhere.Exec(`UPDATE checkpoints SET "offset" = 5`)
	w.Command("DEL", w.Stream)
	w.StreamAll()
	w.WantCount("stream entries", len(w.Offsets()), 12)
	w.WantCount("applied by the consumer elsewhere", w.Consume(there()), 7)
	w.AwaitTotal("here", "12")
	stop()
	w.Ended("the consumer", &waiting)
	elsewhere.WantTotal("there", "12")
	w.CheckArchive()
	w.CheckLog()
	w.CheckAudit()
}

// TestDumpRestoredOnANewServer moves a database to a server that has its own
// transaction ids, which are lower.
func TestDumpRestoredOnANewServer(t *testing.T) {
	t.Parallel()
	old := world.SetupOnRedis(t)
	s := old.Streamer()
	old.CommitMany(5)
	old.Drain(s)
	old.Consume(old.Consumer("sum"))
	old.CommitMany(3)
	old.Drain(s)
	old.CommitMany(2)
	s.Close()

	server := testenv.Postgres(t)
	bin := world.Query[string](old, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`)
	dump := filepath.Join(t.TempDir(), "dump")
	old.Run(filepath.Join(bin, "pg_dump"), "--format=custom", "--file="+dump, old.DB.Config().ConnString())
	old.Run(filepath.Join(bin, "pg_restore"), "--exit-on-error", "--dbname="+server.URL(), dump)
	w := *old
	var err error
	w.DB, err = pgxpool.New(w.Ctx, server.URL())
	w.Must(err)
	t.Cleanup(w.DB.Close)

	const logID = `SELECT log_id::text FROM log_partitions`
	if is, was := world.Query[string](&w, logID), world.Query[string](old, logID); is != was {
		t.Errorf("the log's id is %s, was %s", is, was)
	}
	w.CommitMany(4)
	w.StreamAll()
	w.WantCount("stream entries", len(w.Offsets()), 14)
	w.WantCount("applied", w.Consume(w.Consumer("sum")), 3+2+4)
	w.WantTotal("sum", "14")
	w.CheckArchive()
	w.CheckLog()
	w.CheckAudit()
}

// TestRecordsComeBackAsTheyWent compares every byte of what was staged with
// what a consumer gets from the log, from the archive, and what it parks.
func TestRecordsComeBackAsTheyWent(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	const text = "a\u0301 \u200f\u05e9\u05dc\u05d5\u05dd\u202e \u0645\u0631\u062d\u0628\u0627 \u6f22 \U0001f680\U0001f468\u200d\U0001f469\u200d\U0001f467 \uffff\ufeff\u2028\U0010ffff\u007f"
	documents := []struct{ staged, want string }{
		{staged: `1`},
		{staged: `"` + strings.Repeat("x", unilog.MaxRecordBytes-4) + `"`}, // with action and object, the most
		{staged: `"` + text + `"`},
		{staged: `{"` + text + `": ["` + text + `"]}`},
		{`"\ud83d\ude80\u00e9\u2028\u0001\/"`, "\"\U0001f680\u00e9\u2028\\u0001/\""},
		{staged: `"\\u0000 \" \\ \b\f\n\r\t"`},
		{staged: `{"a": {"b": [{"c": [[], {}, [null, true, false, ""]]}]}}`},
		{staged: strings.Repeat("[", 1000) + strings.Repeat("]", 1000)},
		{staged: `[123456789012345678901234567890, -0.000000000000000000000000000001, 1.50, 0.10, 9007199254740993]`},
		{`[1e30, 1.25e-30, 1E+2]`, `[1000000000000000000000000000000, 0.00000000000000000000000000000125, 100]`},
	}
	var want []unilog.Record
	for _, d := range documents {
		r := unilog.Record{Action: "a", Object: "o", Data: json.RawMessage(d.staged)}
		if len(d.staged) < unilog.MaxRecordBytes/2 {
			r.Action, r.Object, r.Key = "action "+text, "object "+text, "key "+text
			r.Headers = map[string]string{text: text + "\n\"\\", "": ""}
		}
		w.Must(unilog.Stage(w.Ctx, w.DB, r))
		if d.want != "" {
			r.Data = json.RawMessage(d.want)
		}
		want = append(want, r)
	}
	w.Drain(w.Streamer())

	check := func(where string, got []unilog.Record) {
		t.Helper()
		w.WantCount("records "+where, len(got), len(want))
		for i, r := range got {
			if r.Action != want[i].Action || r.Object != want[i].Object || r.Key != want[i].Key ||
				string(r.Data) != string(want[i].Data) || !maps.Equal(r.Headers, want[i].Headers) {
				t.Errorf("%s record %d is %.500q, want %.500q", where, i+1, r, want[i])
			}
		}
	}
	consumed := func(name string) (got []unilog.Record) {
		c := w.Consumer(name, func(cfg *consumer.Config) {
			cfg.ParkRejected = true
			cfg.Handler = consumer.Each(func(_ context.Context, _ pgx.Tx, e unilog.Entry) error {
				got = append(got, e.Record)
				if name == "parking" {
					return world.ErrPoison
				}
				return nil
			})
		})
		stop := w.Consumes(c)
		world.AwaitQuery(w, "what "+name+" has passed", int64(len(want)), `SELECT coalesce(max("offset"), 0) FROM checkpoints WHERE name = $1`, name)
		stop()
		return got
	}
	check("from the log", consumed("log"))
	consumed("parking")
	rows, err := w.DB.Query(w.Ctx, `SELECT action, object, key, data::text, headers::text FROM dead_letters ORDER BY "offset"`)
	w.Must(err)
	parked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r unilog.Record, err error) {
		var data, headers []byte
		if err := row.Scan(&r.Action, &r.Object, &r.Key, &data, &headers); err != nil {
			return r, err
		}
		r.Data = data
		r.Headers, err = unilog.DecodeHeaders(headers)
		return r, err
	})
	w.Must(err)
	check("parked", parked)
	w.Command("XTRIM", w.Stream, "MAXLEN", "0")
	check("from the archive", consumed("archive"))
}
