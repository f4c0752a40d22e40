package doctor

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func migrateLog(ctx context.Context, pool *pgxpool.Pool) error {
	return migration.Up(ctx, pool, migration.Log)
}

// examine returns the findings by their checks.
func examine(t *testing.T, db *pgxpool.Pool, redis rueidis.Client) map[string]Finding {
	t.Helper()
	findings, err := Examine(t.Context(), db, "", Log{Redis: redis}, "unilog", "own", "missing")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Finding{}
	for _, f := range findings {
		found[f.Check] = f
		if f.Found == "" || f.Why == "" || (f.Change == "") != (f.Level == OK) {
			t.Errorf("a part is missing or too many: %+v", f)
		}
	}
	return found
}

func want(t *testing.T, f Finding, level Level) {
	t.Helper()
	if f.Level != level {
		t.Errorf("want %s: %+v", level, f)
	}
}

// open starts a Postgres again, with other options, and connects.
func open(t *testing.T, s *private.Server, o private.Options) (*private.Server, *pgxpool.Pool) {
	t.Helper()
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := private.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Kill()
		<-s.Done()
	})
	db, err := pgxpool.New(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	return s, db
}

// Servers that are set up as they should be give no cause for complaint, until
// Postgres is set up otherwise.
func TestDurableServers(t *testing.T) {
	t.Parallel()
	s := testenv.Postgres(t)
	o := s.Options()
	o.Durable = true
	s, db := open(t, s, o)
	if err := migrateLog(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	redis := testenv.RedisClient(t, testenv.Redis(t).URL())
	for check, f := range examine(t, db, redis) {
		if check != "role" { // the private servers' own is a superuser
			want(t, f, OK)
		}
	}

	db.Close()
	o.ExtraArgs = []string{"-c", "max_prepared_transactions=5"}
	_, db = open(t, s, o)
	want(t, examine(t, db, redis)["max_prepared_transactions"], Advice)
}

func TestTables(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql   string
		level Level
	}{
		"up to date": {`SELECT`, OK},
		"older":      {`DELETE FROM unilog.migrations`, Unsafe},
		"newer":      {`INSERT INTO unilog.migrations (set_name, version, name) VALUES ('unilog_log', 99999, 'newer')`, Unsafe},
		"none":       {`DROP TABLE unilog.migrations`, Unsafe},
		"forbidden":  {`SET SESSION AUTHORIZATION pg_monitor`, Advice},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := testenv.Database(t, "log", migrateLog).Config()
			config.MaxConns = 1 // the session that is changed is the one that looks
			db, err := pgxpool.NewWithConfig(t.Context(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			f, err := Tables(t.Context(), db, "", "unilog", migration.Log)
			if err != nil {
				t.Fatal(err)
			}
			want(t, f, c.level)
		})
	}
}

// Each log in a database is looked at in its own schema.
func TestAnotherSchema(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "log in another schema", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.In("other").Up(ctx, pool, migration.Log)
	})
	for schema, level := range map[unilog.Schema]Level{"other": OK, "": Advice} {
		findings, err := Examine(t.Context(), db, schema, Log{}, "unilog")
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(findings, func(f Finding) bool { return f.Check == "wake-up trigger" })
		want(t, findings[i], level)
	}
	for schema, level := range map[unilog.Schema]Level{"other": OK, "": Unsafe} {
		f, err := Tables(t.Context(), db, schema, "unilog", migration.Log)
		if err != nil {
			t.Fatal(err)
		}
		want(t, f, level)
	}
}
