package consumer

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/sqltx"
)

// SQL makes a Handler of a function that writes by database/sql, or by a library that
// takes a *sql.Tx, such as GORM, bun, sqlx, sqlc or ent. The tx is the consumer's own
// transaction, which also saves the checkpoint: all that [Handler] says holds, and
// savepoints may be used.
//
// Commit and Rollback return [unilog.ErrTransactionSpoiled], which halts the consumer. A
// statement that is run without a context has that of the call. When f returns, open rows
// are closed, and tx is of no use any more.
//
// Values are read and written as by pgx's own driver, package stdlib.
func SQL(f func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error) Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		return sqltx.Call(ctx, tx, func(tx *sql.Tx) error { return f(ctx, tx, entries) })
	}
}
