package streamer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// hostile are settings of a database that somebody has made for something else.
var hostile = []string{
	`client_encoding = 'LATIN1'`,
	`DateStyle = 'SQL, DMY'`,
	`default_transaction_isolation = 'repeatable read'`,
	`search_path = 'nowhere'`,
	`row_security = off`,
	`jit = on`,
	`jit_above_cost = 0`,
	`standard_conforming_strings = off`,
	`bytea_output = 'escape'`,
	`IntervalStyle = 'sql_standard'`,
	`TimeZone = 'Asia/Kathmandu'`,
	`extra_float_digits = -15`,
	`synchronous_commit = off`,
	`lc_numeric = 'C'`,
	`quote_all_identifiers = on`,
	`default_transaction_deferrable = on`,
}

// TestDatabaseOfOtherSettings streams and consumes, from the log and from the archive,
// in a database with settings that change what statements mean and what comes back.
func TestDatabaseOfOtherSettings(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	for _, setting := range hostile {
		w.Exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ` + quoted(setting) + `', current_database()); END $$`)
	}
	writers := w.DB
	db, err := pgxpool.NewWithConfig(w.Ctx, w.DB.Config()) // which the settings are for
	w.Must(err)
	testenv.ClosePool(t, db)
	config := w.DB.Config()
	config.ConnConfig.RuntimeParams["client_encoding"] = "UTF8" // which consumers ask for
	readers, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, readers)

	var staged []unilog.Record
	for i := range 20 {
		staged = append(staged, unilog.Record{
			Action: "né", Object: "größe", Key: fmt.Sprint("schlüssel ☃", i),
			Data:    json.RawMessage(fmt.Sprintf(`{"n": %d.100, "text": "naïve \\\\ ' 日本"}`, i)),
			Headers: map[string]string{"tracé": `\x41 ' é`},
		})
	}
	stage := func() {
		w.Must(pgx.BeginFunc(w.Ctx, writers, func(tx pgx.Tx) error { return unilog.Stage(w.Ctx, tx, staged...) }))
	}
	var mu sync.Mutex
	applied := map[string]map[string][]unilog.Record{}
	ctx, stop := context.WithCancel(w.Ctx)
	t.Cleanup(stop)
	var processes errgroup.Group
	consume := func(name string) {
		c := w.Consumer(name, func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive = readers, readers
			cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
				mu.Lock()
				defer mu.Unlock()
				if applied[name] == nil {
					applied[name] = map[string][]unilog.Record{}
				}
				for _, e := range entries {
					if e.Object != unilog.ReservedObject {
						applied[name][e.Key] = append(applied[name][e.Key], e.Record)
					}
				}
				return nil
			}
		})
		processes.Go(func() error { return c.Run(ctx) })
	}
	wantApplied := func(name string, times int) {
		t.Helper()
		world.AwaitQuery(w, "what "+name+" has not applied", 0, `
			SELECT coalesce(sum(p.next_offset - 1 - coalesce(c."offset", 0)), -1)::int
			FROM unilog.partitions AS p LEFT JOIN unilog.checkpoints AS c ON c.partition = p.partition AND c.name = $1`, name)
		mu.Lock()
		defer mu.Unlock()
		for _, r := range staged {
			got := applied[name][r.Key]
			w.WantCount("records of "+r.Key, len(got), times)
			for _, g := range got {
				if !reflect.DeepEqual(g, r) {
					t.Errorf("%s got\n%+v, staged was\n%+v", name, g, r)
					return
				}
			}
		}
	}
	s := w.Streamer(func(cfg *streamer.Config) { cfg.DB = db })
	stage()
	processes.Go(func() error { return s.Run(ctx) })
	consume("log")
	w.AwaitTrue("all to be numbered", `SELECT NOT EXISTS (SELECT FROM unilog.staged_records)`)
	wantApplied("log", 1)
	// It is published again from the archive, and a new consumer finds its beginning there.
	w.Wipe()
	w.Command("DEL", w.Stream+":1", "{"+w.Stream+":1}:leader")
	stage()
	w.AwaitTrue("all to be numbered", `SELECT NOT EXISTS (SELECT FROM unilog.staged_records)`)
	wantApplied("log", 2)
	w.AwaitTrue("all to be published", `SELECT bool_and(published_offset = next_offset - 1) FROM unilog.partitions`)
	for p := range 2 {
		w.Attempt("the log to be trimmed", func(ctx context.Context) (bool, error) { // by connections that the streamer may give up
			head, err := w.Log.Head(ctx, p)
			if err == nil {
				err = w.Log.Trim(ctx, p, head.Offset-1)
			}
			return err == nil, err
		})
	}
	consume("archive")
	wantApplied("archive", 2)
	stop()
	w.Ended("the processes", &processes)
	w.Exec(`INSERT INTO sums VALUES ('log', 0), ('archive', 0)`)
}

// quoted is for format and a literal.
func quoted(setting string) string {
	out := ""
	for _, r := range setting {
		if out += string(r); r == '\'' {
			out += "'"
		}
	}
	return out
}

// TestSchemasSideBySide has two logs in one database, each with a streamer and a consumer
// of its own in one process.
func TestSchemasSideBySide(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const tenant = unilog.Schema("tenant")
	w.Must(migration.In(tenant).Up(w.Ctx, w.DB, migration.Log, migration.Consumer))
	w.Repartition(2, 1)
	ctx, stop := context.WithCancel(w.Ctx)
	t.Cleanup(stop)
	var processes errgroup.Group
	logs := map[unilog.Schema]*logtest.Memory{"": w.Memory, tenant: logtest.NewMemory()}
	applied := map[unilog.Schema]*counted{"": {}, tenant: {}}
	for schema, log := range logs {
		s := w.Streamer(func(cfg *streamer.Config) { cfg.Schema, cfg.Log = schema, log })
		processes.Go(func() error { return s.Run(ctx) })
		c := w.Consumer("sum", func(cfg *consumer.Config) {
			cfg.Schema, cfg.Log = schema, log
			cfg.Handler = applied[schema].add
		})
		processes.Go(func() error { return c.Run(ctx) })
	}
	for n := 1; n <= 5; n++ {
		for schema := range logs {
			w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
				r := world.Record("1")
				if r.Key = "of the first"; schema == tenant {
					r.Key = "of the tenant"
				}
				return schema.Stage(w.Ctx, tx, r, r)
			}))
		}
		for schema := range logs {
			world.AwaitEqual(w, "the records that were applied", 2*n, applied[schema].count)
		}
	}
	stop()
	w.Ended("the processes", &processes)
	for schema, want := range map[unilog.Schema]string{"": "of the first", tenant: "of the tenant"} {
		if keys := applied[schema].keys; len(keys) != 1 || keys[want] != 10 {
			t.Errorf("in the schema %s these were applied: %v", schema.Name(), keys)
		}
	}
	w.WantCount("partitions of the tenant", world.Query[int](w, `SELECT partitions FROM tenant.log`), 1)
	w.Exec(`INSERT INTO sums VALUES ('sum', 0)`)
}

// counted are the records that a consumer has applied, by their keys.
type counted struct {
	mu   sync.Mutex
	keys map[string]int
}

func (c *counted) add(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = map[string]int{}
	}
	for _, e := range entries {
		if e.Object != unilog.ReservedObject {
			c.keys[e.Key]++
		}
	}
	return nil
}

func (c *counted) count() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.keys {
		n += k
	}
	return n
}
