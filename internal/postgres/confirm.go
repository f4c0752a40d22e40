package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrUnconfirmed says that a commit is done here, and may not be on the synchronous
// standby, for which the wait was cancelled. A promoted standby may not have it.
var ErrUnconfirmed = errors.New("unilog: the wait for a synchronous standby was cancelled: the outcome of the commit is unknown")

// unconfirmedKey marks a connection that was told so.
const unconfirmedKey = "unilog.unconfirmed"

// NoteUnconfirmed lets connections remember that Postgres has warned of such a commit,
// which is all that it does, for [CheckConfirmed].
func NoteUnconfirmed(config *pgx.ConnConfig) {
	config.OnNotice = func(conn *pgconn.PgConn, n *pgconn.Notice) {
		// The source's name, since the text comes in the server's language.
		if n.Routine == "SyncRepWaitForLSN" {
			conn.CustomData()[unconfirmedKey] = true
		}
	}
}

// CheckConfirmed returns [ErrUnconfirmed] if Postgres has warned since the last call.
func CheckConfirmed(conn *pgx.Conn) error {
	data := conn.PgConn().CustomData()
	if data[unconfirmedKey] == nil {
		return nil
	}
	delete(data, unconfirmedKey)
	return ErrUnconfirmed
}

// CheckAllConfirmed is [CheckConfirmed] for a pool of which no connection is in use.
func CheckAllConfirmed(ctx context.Context, db *pgxpool.Pool) (err error) {
	for _, conn := range db.AcquireAllIdle(ctx) {
		err = errors.Join(err, CheckConfirmed(conn.Conn()))
		conn.Release()
	}
	return err
}
