package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

// WhenUnused runs a statement that others must have left a database for: CREATE DATABASE
// from it, or DROP DATABASE. Postgres waits 5 s for sessions to leave, also where it ends them
// itself, and then refuses; on a busy machine they may take longer. It is asked up to 12
// times.
func WhenUnused(ctx context.Context, db unilog.Execer, sql string) error {
	const attempts = 12
	for i := 1; ; i++ {
		_, err := db.Exec(ctx, sql)
		var refused *pgconn.PgError
		if err == nil || i == attempts || !errors.As(err, &refused) || refused.Code != "55006" { // object_in_use
			return err
		}
		select { // it refuses at once what is no session
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}
