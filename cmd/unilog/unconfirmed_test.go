package main

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

// TestNoSynchronousStandby takes the synchronous standby away, and cancels the waits for it:
// what a command has committed would be lost if it were promoted.
func TestNoSynchronousStandby(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, "-c", "wal_level=replica", "-c", "max_wal_senders=5")
	config, err := pgxpool.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["synchronous_commit"] = "local"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, pool)
	if err := migration.Up(t.Context(), pool, migration.Log, migration.Consumer); err != nil {
		t.Fatal(err)
	}
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('billing', 0)`)
	testenv.AwaitStandbys(t, server, "FIRST 2 (near, far)")
	env := env(t, pool)
	for _, command := range [][]string{{"consumers", "forget", "billing"}, {"migrate", "--partitions=2"}} {
		answer := make(chan result, 1)
		go func() { answer <- execute(t, env, command...) }()
		await.True(t, "a commit to wait for the standby", func() (waits bool) {
			err := pool.QueryRow(t.Context(), `
				SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&waits)
			if err != nil {
				t.Fatal(err)
			}
			return waits
		})
		r := await.Receive(t, "the end", answer)
		const want = "it is done, and would be undone if a standby were promoted now"
		if r.code != 1 || !strings.Contains(r.err, want) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%v: exit code %d; stderr, want one line with %q:\n%s", command, r.code, want, r.err)
		}
	}
	local := append(env, "DATABASE_URL="+server.URL()+"&synchronous_commit=local")
	r := execute(t, local, "doctor")
	for _, want := range []string{
		"synchronous_commit is local for role", "set by the connection string",
		"unsafe  0 of 2 synchronous standbys are there (FIRST 2 (near, far))",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("the doctor does not say %q:\n%s", want, r.out)
		}
	}
}
