package testenv

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

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
