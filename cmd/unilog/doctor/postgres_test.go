package doctor

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
)

// disguise puts a function in front of one of Postgres's own.
func disguise(function, body string) string {
	return `CREATE SCHEMA disguise; CREATE SEQUENCE disguise.n;
		CREATE FUNCTION disguise.` + function + ` LANGUAGE sql AS $$ ` + body + ` $$;
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = disguise, pg_catalog, public', current_database()); END $$`
}

func set(setting string) string {
	return `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET ` + setting + `', current_database()); END $$`
}

func TestPostgresSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql   string
		check string
		level Level
	}{
		"no fsync":              {`SELECT`, "fsync", Unsafe},            // as the shared server
		"no full page writes":   {`SELECT`, "full_page_writes", Unsafe}, // as the shared server
		"asynchronous commits":  {set("synchronous_commit = off"), "synchronous_commit", Unsafe},
		"read only":             {set("default_transaction_read_only = on"), "primary", Unsafe},
		"writable":              {`SELECT`, "primary", OK},
		"local commits":         {set("synchronous_commit = local"), "synchronous_commit", OK},
		"unlogged table":        {`ALTER TABLE unilog.staged_records SET UNLOGGED`, "unlogged tables", Unsafe},
		"unlogged own table":    {`CREATE UNLOGGED TABLE own ()`, "unlogged tables", Unsafe},
		"unlogged other table":  {`CREATE UNLOGGED TABLE other ()`, "unlogged tables", OK},
		"no standby":            {`SELECT`, "synchronous standbys", OK},
		"trigger":               {`SELECT`, "wake-up trigger", OK},
		"trigger for all":       {`ALTER TABLE unilog.staged_records ENABLE ALWAYS TRIGGER staged_records_wake`, "wake-up trigger", OK},
		"trigger disabled":      {`ALTER TABLE unilog.staged_records DISABLE TRIGGER staged_records_wake`, "wake-up trigger", Advice},
		"trigger for a replica": {`ALTER TABLE unilog.staged_records ENABLE REPLICA TRIGGER staged_records_wake`, "wake-up trigger", Advice},
		"trigger gone":          {`DROP FUNCTION unilog.wake_streamer CASCADE`, "wake-up trigger", Advice},
		"ids in order":          {`ALTER SEQUENCE unilog.staged_records_id_seq INCREMENT 2`, "ids", OK},
		"ids in blocks":         {`ALTER SEQUENCE unilog.staged_records_id_seq CACHE 50`, "ids", Unsafe},
		"no tables":             {`DROP TABLE unilog.staged_records`, "wake-up trigger", Advice},
		"superuser":             {`SELECT`, "role", Advice},
		"common role":           {set("role = pg_monitor"), "role", OK},
		"may end no sessions":   {`REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC; ` + set("role = pg_monitor"), "pg_terminate_backend", Advice},
		// It only says so: a session that does would end whenever this is slow.
		"ends idle sessions": {`CREATE SCHEMA disguise;
			CREATE VIEW disguise.pg_settings AS SELECT name, source,
				CASE name WHEN 'idle_session_timeout' THEN '1000' ELSE setting END AS setting FROM pg_catalog.pg_settings;
			` + set("search_path = disguise, pg_catalog, public"), "idle_session_timeout", Advice},
		"old version": {disguise(`current_setting(text) RETURNS text`,
			`SELECT CASE $1 WHEN 'server_version_num' THEN '130021' ELSE pg_catalog.current_setting($1) END`), "postgres", Unsafe},
		"skewed clock": {disguise(`clock_timestamp() RETURNS timestamptz`,
			`SELECT pg_catalog.clock_timestamp() + interval '1 hour'`), "clock of this process", Advice},
		"skewed clock, seen from Redis": {disguise(`clock_timestamp() RETURNS timestamptz`,
			`SELECT pg_catalog.clock_timestamp() - interval '1 hour'`), "clock of Redis", Advice},

		"no pooler": {`SELECT`, "pooler", OK},
		"pooler that keeps sessions": {disguise(`pg_backend_pid() RETURNS int`,
			`SELECT pg_catalog.pg_backend_pid() + 10000000`), "pooler", Advice},
		"pooler that changes sessions": {disguise(`pg_backend_pid() RETURNS int`,
			`SELECT 10000000 + nextval('disguise.n')::int`), "pooler", Unsafe},
		"pooler that loses statements": {disguise(`pg_backend_pid() RETURNS int`,
			`SELECT 10000000 + nextval('disguise.n')::int`), "prepared statements", Advice},
		"pooler that takes turns": {disguise(`pg_backend_pid() RETURNS int`,
			`SELECT 10000000 + CASE nextval('disguise.n') WHEN 2 THEN 1 WHEN 4 THEN 1 ELSE 0 END`), "pooler", Unsafe},
		"pooler with one session": {disguise(`pg_backend_pid() RETURNS int`, `SELECT 10000000`), "pooler", Unsafe},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t, "log", migrateLog)
			if _, err := db.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			db.Reset() // settings are those of new sessions
			want(t, examine(t, db, testenv.RedisClient(t, testenv.SharedRedis(t)))[c.check], c.level)
		})
	}
}

// TestPgBouncerSessionIsFound and the next look through one.
func TestPgBouncerSessionIsFound(t *testing.T) {
	t.Parallel()
	want(t, through(t, "session")["pooler"], Advice)
}

func TestPgBouncerTransactionIsFound(t *testing.T) {
	t.Parallel()
	want(t, through(t, "transaction")["pooler"], Unsafe)
}

func through(t *testing.T, mode string) map[string]Finding {
	t.Helper()
	p := testenv.PgBouncer(t, mode)
	open := func(url string) *pgxpool.Pool {
		db, err := pgxpool.New(context.Background(), url)
		if err != nil {
			t.Fatal(err)
		}
		testenv.ClosePool(t, db)
		return db
	}
	if err := migrateLog(t.Context(), open(p.Direct)); err != nil {
		t.Fatal(err)
	}
	return examine(t, open(p.URL), testenv.RedisClient(t, testenv.SharedRedis(t)))
}
