package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

// WhenUnused runs a statement that others must have left a database for: CREATE DATABASE
// from it, or DROP DATABASE. Postgres waits 5 s for that, also where it ends their sessions
// itself, and then refuses; a session on a busy machine may take longer. It is asked again,
// for a minute at least.
func WhenUnused(ctx context.Context, db unilog.Execer, sql string) error {
	const attempts = 12
	for i := 1; ; i++ {
		_, err := db.Exec(ctx, sql)
		var refused *pgconn.PgError
		if err == nil || i == attempts || !errors.As(err, &refused) || refused.Code != "55006" { // object_in_use
			return err
		}
	}
}
