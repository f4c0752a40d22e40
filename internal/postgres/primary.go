package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotPrimary says that a server takes no writes: it is a standby, or was made read
// only, as the old primary is in a switchover.
var ErrNotPrimary = errors.New("unilog: this Postgres takes no writes: connecting anew until it does, or its address leads to one that does")

// SQLReadOnly says whether the server takes no writes, also in a transaction that takes none.
const SQLReadOnly = `(pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on')`

// CheckPrimary returns [ErrNotPrimary] if the server at the other end of a connection takes
// no writes, as far as it has told: it reports changes of these settings with the answer to
// the next statement.
func CheckPrimary(conn *pgx.Conn) error {
	for _, setting := range [...]string{"in_hot_standby", "default_transaction_read_only"} {
		if conn.PgConn().ParameterStatus(setting) == "on" {
			return ErrNotPrimary
		}
	}
	return nil
}

// NotPrimary returns an error, as an [ErrNotPrimary] if it says that a server has not taken
// a write.
func NotPrimary(err error) error {
	if errors.Is(err, ErrNotPrimary) || SQLState(err) != readOnlyTransaction {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotPrimary, err)
}

// Reconnect is [NotPrimary] and [Explain]. It closes the pool's connections if the server
// takes no writes: the address may lead to another one by now, and open connections would
// never get there.
func Reconnect(db *pgxpool.Pool, err error) error {
	err = Explain(NotPrimary(err))
	if errors.Is(err, ErrNotPrimary) {
		db.Reset()
	}
	return err
}

// readOnlyTransaction is the SQLSTATE of a write that a server does not take.
const readOnlyTransaction = "25006"

// usedKey marks connections that a pool has given to somebody.
const usedKey = "unilog.used"

// KeepToPrimary lets a pool use a connection to a server that takes no writes only once:
// the next use gets a new connection, and with it the server that its address leads to
// then.
func KeepToPrimary(config *pgxpool.Config) {
	config.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		data := conn.PgConn().CustomData()
		if CheckPrimary(conn) != nil && data[usedKey] != nil {
			return false, nil
		}
		data[usedKey] = true
		return true, nil
	}
}
