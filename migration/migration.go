// Package migration creates and upgrades the tables of unilog.
//
// The tables come in sets that are versioned apart, so that a database gets
// what it needs: [Log] where writers stage records, [Consumer] where a consumer
// keeps its checkpoint. An application may run its own set along with them.
package migration

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed log/*.sql consumer/*.sql
var files embed.FS

// Set is a series of migrations with a version of its own.
type Set struct {
	// Name is a lower-case word; the version is kept in the table
	// NAME_migrations.
	Name string
	// FS holds the migrations, in goose's format, at its root.
	FS fs.FS
}

// The library's sets.
var (
	Log      = Set{Name: "unilog_log", FS: sub("log")}
	Consumer = Set{Name: "unilog_consumer", FS: sub("consumer")}
)

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // the directory is embedded
	}
	return f
}

const (
	// lockSeconds bounds the wait for another process that migrates.
	lockSeconds = 60
	// unlockTimeout bounds the release of its lock, which ends with the session
	// in any case.
	unlockTimeout = 2 * time.Second
)

// boundedLocker gives up a lock even if nobody answers: goose asks for it
// without a deadline.
type boundedLocker struct{ lock.SessionLocker }

func (l boundedLocker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, unlockTimeout)
	defer cancel()
	return l.SessionLocker.SessionUnlock(ctx, conn)
}

// Up brings the sets, in their order, to their newest version. It is safe to
// call from several processes at once: they take turns by a session lock, and
// those that come later find nothing to do. Each migration is one transaction.
func Up(ctx context.Context, pool *pgxpool.Pool, sets ...Set) (err error) {
	db := stdlib.OpenDBFromPool(pool)
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, set := range sets {
		if err := up(ctx, db, set); err != nil {
			return fmt.Errorf("migrations %s: %w", set.Name, err)
		}
	}
	return nil
}

func up(ctx context.Context, db *sql.DB, set Set) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockSeconds))
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, set.FS,
		goose.WithTableName(set.table()),
		goose.WithSessionLocker(boundedLocker{locker}),
		goose.WithDisableGlobalRegistry(true),
	)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// OutdatedError says that a database's tables are older or newer than the
// program's.
type OutdatedError struct {
	Set       string
	Has, Want int64
}

func (e *OutdatedError) Error() string {
	if e.Has > e.Want {
		return fmt.Sprintf("the database's tables (%s version %d) are newer than this program knows (%d): run a newer program", e.Set, e.Has, e.Want)
	}
	return fmt.Sprintf("the database's tables (%s version %d) are older than this program needs (%d): migrate it first", e.Set, e.Has, e.Want)
}

// Check returns an [OutdatedError] unless every set is at its newest version.
// It changes nothing.
func Check(ctx context.Context, pool *pgxpool.Pool, sets ...Set) error {
	for _, set := range sets {
		want, err := newest(set)
		if err != nil {
			return err
		}
		has, err := version(ctx, pool, set)
		if err != nil {
			return err
		}
		if has != want {
			return &OutdatedError{Set: set.Name, Has: has, Want: want}
		}
	}
	return nil
}

// version reads a set's version without creating its table, as goose would.
func version(ctx context.Context, pool *pgxpool.Pool, set Set) (has int64, err error) {
	table := set.table()
	var exists bool
	if err := pool.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	// A row per migration that was run: few enough to scan.
	err = pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM `+table+` WHERE is_applied`).Scan(&has)
	return has, err
}

func newest(set Set) (int64, error) {
	names, err := fs.Glob(set.FS, "*.sql")
	if err != nil || len(names) == 0 {
		return 0, errors.Join(fmt.Errorf("migration set %s has no files", set.Name), err)
	}
	return goose.NumericComponent(names[len(names)-1]) // Glob sorts
}

// SQL returns what [Up] would do to an empty database, as one transaction, for
// those who run their migrations by other means. It records the versions, so
// that [Check] and a later Up know of it.
func SQL(sets ...Set) (string, error) {
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	for _, set := range sets {
		names, err := fs.Glob(set.FS, "*.sql")
		if err != nil {
			return "", err
		}
		versions := "(0, true)" // goose begins with it
		for _, name := range names {
			text, err := fs.ReadFile(set.FS, name)
			if err != nil {
				return "", err
			}
			version, err := goose.NumericComponent(name)
			if err != nil {
				return "", err
			}
			versions += fmt.Sprintf(", (%d, true)", version)
			fmt.Fprintf(&b, "\n-- %s\n\n", path.Join(set.Name, name))
			for line := range strings.Lines(string(text)) {
				if !strings.HasPrefix(line, "-- +goose") {
					b.WriteString(line)
				}
			}
		}
		fmt.Fprintf(&b, sqlVersions, set.table(), versions)
	}
	b.WriteString("\nCOMMIT;\n")
	return b.String(), nil
}

// sqlVersions makes goose's table as goose would.
const sqlVersions = `
CREATE TABLE %[1]s (
    id         integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp     timestamp NOT NULL DEFAULT now()
);
INSERT INTO %[1]s (version_id, is_applied) VALUES %[2]s;
`

func (s Set) table() string { return s.Name + "_migrations" }
