package main

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/testenv"
)

func emptyDatabase(t *testing.T) (*pgxpool.Pool, []string) {
	t.Helper()
	pool := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
	return pool, []string{"DATABASE_URL=" + pool.Config().ConnString()}
}

func TestMigrateFromSeveralProcessesAtOnce(t *testing.T) {
	t.Parallel()
	pool, env := emptyDatabase(t)
	var processes errgroup.Group
	for range 4 {
		processes.Go(func() error {
			if r := execute(t, env, "migrate"); r.code != 0 {
				t.Errorf("migrate: %+v", r)
			}
			return nil
		})
	}
	if err := processes.Wait(); err != nil {
		t.Fatal(err)
	}
	var partitions int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM unilog.partitions`).Scan(&partitions); err != nil || partitions != 1 {
		t.Errorf("%d partitions, %v", partitions, err)
	}
}

func TestMigrateSQLIsTheWholeSchema(t *testing.T) {
	t.Parallel()
	pool, env := emptyDatabase(t)
	r := execute(t, nil, "migrate", "--sql")
	if r.code != 0 {
		t.Fatalf("migrate --sql: %+v", r)
	}
	exec1(t, pool, r.out)
	exec1(t, pool, `SELECT FROM rides, unilog.staged_records, unilog.records, unilog.partitions, unilog.checkpoints, unilog.dead_letters, consumer_states`)
	// A database that was migrated by other means is taken for what it is.
	if r := execute(t, env, "migrate"); r.code != 0 {
		t.Errorf("migrate after --sql: %+v", r)
	}
	if r := execute(t, env, "verify"); r.code != 2 || !strings.Contains(r.err, "no consumer") {
		t.Errorf("verify: %+v", r)
	}
}

func TestProcessesRefuseAnotherSchema(t *testing.T) {
	t.Parallel()
	_, env := emptyDatabase(t)
	newer, newerEnv := database(t)
	exec1(t, newer, `INSERT INTO unilog.migrations (set_name, version, name) VALUES ('rides', 99999, 'newer')`)
	for _, process := range [][]string{{"api"}, {"streamer"}, {"consumer", "c"}} {
		execute(t, env, process...).fails(t, 1, "the tables are not there (unilog_log, in schema unilog): run `rocketrides migrate`")
		execute(t, newerEnv, process...).fails(t, 1, "run a newer program")
	}
}

// A database of an earlier version keeps what it has.
func TestMigrateUpgrades(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `ALTER TABLE consumer_states DROP COLUMN partition, ADD PRIMARY KEY (name)`)
	exec1(t, pool, `DELETE FROM unilog.migrations WHERE set_name = 'rides' AND version > 3`)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 8, published_offset = 7`)
	execute(t, env, "streamer").fails(t, 1, "migrate it first, by `rocketrides migrate`")
	if r := execute(t, env, "migrate"); r.code != 0 {
		t.Fatalf("migrate: %+v", r)
	}
	if r := execute(t, env, "status"); r.code != 0 || !strings.Contains(r.out, "numbered   7") {
		t.Errorf("status: %+v", r)
	}
}

func TestMigratePartitions(t *testing.T) {
	t.Parallel()
	_, env := emptyDatabase(t)
	for _, step := range []struct{ flag, says string }{
		{"--partitions=4", "the log has 4 partitions now (1 before): records of a key keep their order"},
		{"--partitions=4", "the log has 4 partitions already"},
		{"--partitions=0", "the database's tables are up to date"},
		{"--partitions=1", "the log has 1 partition now (4 before)"},
		{"--partitions=6", "the log has 6 partitions now (1 before)"},
	} {
		if r := execute(t, env, "migrate", step.flag); r.code != 0 || !strings.Contains(r.out, step.says) {
			t.Errorf("migrate %s: %+v, want %q", step.flag, r, step.says)
		}
	}
	r := execute(t, append(env, "REDIS_URL="+testenv.SharedRedis(t)), "status")
	if r.code != 0 || !strings.Contains(r.out, "0 of 6 partitions have one") || !strings.Contains(r.out, "- partitions 0, 1, 2, 3, 4 and 5: no streamer leads") {
		t.Errorf("status: %+v", r)
	}
	execute(t, env, "migrate", "--partitions=1025").fails(t, 2, "--partitions is 1025: it must be from 1 to 1024")
	execute(t, env, "up", "--partitions=-1").fails(t, 2, "--partitions is -1: it must be from 1 to 1024")
	execute(t, env, "migrate", "--partitions=2", "--sql").fails(t, 2, "--partitions is not for --sql")
}

// What a test's cleaner leaves, each command names, and migrate mends.
func TestEmptiedTables(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	flags := []string{"--database-url=" + pool.Config().ConnString(), "--redis-url=" + patient(testenv.SharedRedis(t))}
	exec1(t, pool, `TRUNCATE unilog.log, unilog.partitions, unilog.places, unilog.batches, unilog.staged_records, unilog.checkpoints`)
	for code, commands := range map[int][]string{1: {"status", "api", "streamer", "consumer c", "dashboard", "consumers list", "log switch --to=redis://x"}, 2: {"verify"}} {
		for _, c := range commands {
			args := strings.Fields(c)
			has := flags
			if args[0] == "api" || args[0] == "verify" || args[0] == "consumers" {
				has = flags[:1]
			}
			here(t.Context(), t, append(args, has...)...).fails(t, code, "the table unilog.log has no row")
		}
	}
	if r := execute(t, append(env, "REDIS_URL="+testenv.SharedRedis(t)), "doctor"); !strings.Contains(r.out, "unsafe  the table unilog.log has no row") {
		t.Errorf("doctor: %+v", r)
	}
	if r := execute(t, env, "migrate"); r.code != 0 || !strings.Contains(r.out, "a new log begins") {
		t.Errorf("migrate: %+v", r)
	}
	if r := here(t.Context(), t, append([]string{"status"}, flags...)...); r.code != 0 {
		t.Errorf("status: %+v", r)
	}
}

func TestProcessesSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	execute(t, nil, "api").fails(t, 1, "DATABASE_URL is not set")
	execute(t, env, "streamer").fails(t, 1, "REDIS_URL is not set")
	// NAME= is as good as nothing.
	execute(t, []string{"DATABASE_URL="}, "api").fails(t, 1, "DATABASE_URL is not set")
}
