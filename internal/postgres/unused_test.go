package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
)

// leaving ends a session when a statement was refused.
type leaving struct {
	unilog.Execer
	session *pgx.Conn
	refused int
}

func (l *leaving) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := l.Execer.Exec(ctx, sql, args...)
	if err != nil {
		l.refused++
		_ = l.session.Close(ctx)
	}
	return tag, err
}

// TestWhenUnused drops a database that somebody leaves later than Postgres waits for.
func TestWhenUnused(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
	name := db.Config().ConnConfig.Database + "_used"
	if _, err := db.Exec(t.Context(), `CREATE DATABASE `+name+` TEMPLATE template0`); err != nil {
		t.Fatal(err)
	}
	config := db.Config().ConnConfig.Copy()
	config.Database = name
	session, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	l := &leaving{Execer: db, session: session}
	if err := postgres.WhenUnused(t.Context(), l, `DROP DATABASE `+name); err != nil || l.refused == 0 {
		t.Errorf("it was refused %d times, and returned %v", l.refused, err)
	}
	if err := postgres.WhenUnused(t.Context(), l, `DROP DATABASE `+name); err == nil {
		t.Error("what fails otherwise returned no error")
	}
}
