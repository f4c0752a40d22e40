package testenv

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/private"
)

// Standby starts a hot standby of a Postgres of the test's own, which needs
// wal_level=replica and max_wal_senders. It and its data are gone after the test.
func Standby(t testing.TB, primary *private.Server) *private.Server {
	t.Helper()
	// What pg_basebackup notes for it names options that an older server does not know.
	connects := "primary_conninfo=" + primary.URL()
	return own(t, func(ctx context.Context, o private.Options) (*private.Server, error) {
		if err := copyOf(ctx, primary, filepath.Join(o.Dir, "data")); err != nil {
			return nil, err
		}
		return private.StartPostgres(ctx, o)
	}, private.Options{ExtraArgs: append(slices.Clip(primary.Options().ExtraArgs), "-c", connects)})
}

func copyOf(ctx context.Context, primary *private.Server, data string) error {
	conn, err := pgx.Connect(ctx, primary.URL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var binaries, original string
	err = conn.QueryRow(ctx, `SELECT (SELECT setting FROM pg_config WHERE name = 'BINDIR'), current_setting('data_directory')`).
		Scan(&binaries, &original)
	if err != nil {
		return err
	}
	for _, command := range [][]string{
		{filepath.Join(binaries, "pg_basebackup"), "-d", primary.URL(), "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"},
		{"chown", "-R", "--reference=" + original, data}, // Postgres's user may be another one
	} {
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

// AwaitStandbys has commits of a Postgres of the test's own wait for synchronous standbys,
// named as in synchronous_standby_names, and returns once they do. That takes the server a
// while: it is its checkpointer that reads the configuration again.
func AwaitStandbys(t testing.TB, server *private.Server, names string) {
	t.Helper()
	ctx := await.Context(t, "commits to wait for a standby")
	open := func(parameters string) *pgx.Conn {
		conn, err := pgx.Connect(ctx, server.URL()+parameters)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	local, waits := open("&synchronous_commit=local"), open("")
	for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = '` + names + `'`, `SELECT pg_reload_conf()`} {
		if _, err := local.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { // commits something, until that waits, and is ended
		for {
			if _, err := waits.Exec(ctx, `SELECT pg_logical_emit_message(true, 'test', 'waits')`); err != nil {
				ended <- err
				return
			}
		}
	}()
	await.That(t, "a commit to wait for a standby", func() string {
		var is bool
		err := local.QueryRow(ctx, `
			SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) FROM pg_stat_activity
			WHERE pid = $1 AND wait_event = 'SyncRep'`, waits.PgConn().PID()).Scan(&is)
		switch {
		case err != nil:
			t.Fatal(err)
		case !is:
			return "none does"
		}
		return ""
	})
	await.Receive(t, "the end of the commit that waits", ended)
}
