package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// The states of a session, as Postgres reports them with each answer.
const (
	idle          = 'I' // in no transaction
	inTransaction = 'T'
)

// handlersTx is the transaction that a handler gets. It is not the handler's to end.
type handlersTx struct {
	pgx.Tx
	spoilt bool
	// sets says that the session's settings may not be what they were.
	sets bool
}

func (tx *handlersTx) Conn() *pgx.Conn {
	tx.sets = true // who knows
	return tx.Tx.Conn()
}

func (tx *handlersTx) Commit(context.Context) error {
	tx.spoilt = true
	return unilog.ErrTransactionSpoiled
}

func (tx *handlersTx) Rollback(context.Context) error {
	tx.spoilt = true
	return unilog.ErrTransactionSpoiled
}

// Exec also sees that the statement neither ends the transaction nor begins another one in
// its place, which the session's state would not show.
func (tx *handlersTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := tx.Tx.Exec(ctx, sql, args...)
	switch tag.String() {
	case "SET", "RESET", "DISCARD ALL", "LISTEN", "UNLISTEN", "DO", "CALL":
		tx.sets = true
	case "COMMIT", "BEGIN", "START TRANSACTION":
		tx.spoilt = true
	case "ROLLBACK": // to a savepoint is fine
		tx.spoilt = tx.spoilt || !slices.Contains(strings.Fields(strings.ToUpper(sql)), "TO")
	}
	return tag, err
}

// callHandler calls a handler and tells its rejections, which it marks, from failures
// that the records are not to blame for.
func callHandler(ctx context.Context, handler Handler, log *slog.Logger, tx *handlersTx, entries []unilog.Entry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("handler panicked", "first", entries[0].Offset, "panic", p, "stack", string(debug.Stack()))
			err = &rejection{fmt.Errorf("panic: %v", p)}
		}
	}()
	err = handler(ctx, tx, entries)
	code, conn := postgres.SQLState(err), tx.Tx.Conn()
	switch {
	case conn.IsClosed():
		return err // the commit fails, if nothing has
	case err == nil && !tx.spoilt && conn.PgConn().TxStatus() == inTransaction:
		return nil
	case err == nil,
		errors.Is(err, unilog.ErrTransactionSpoiled), errors.Is(err, pgx.ErrTxClosed),
		code == "25P01", code == "25P02": // in no transaction, in one that has failed
		return spoilt(entries, err)
	case ctx.Err() != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded): // of a timeout that the handler itself has set
		return &rejection{err}
	case code == "57014" && len(entries) > 1: // cancelled, as by statement_timeout: less work may do
		return &rejection{err}
	case pgconn.SafeToRetry(err): // nothing was sent, as on a connection that is in use
	case code == "57014", postgres.IsTransient(err), postgres.IsSetup(err):
	default:
		return &rejection{err}
	}
	return fmt.Errorf("the handler failed, and not for its records: %w", err)
}

// spoilt says from which record on a handler was at work that has spoiled its
// transaction, and what it said.
func spoilt(entries []unilog.Entry, err error) error {
	where := fmt.Errorf("%w (%d records of partition %d from offset %d)",
		unilog.ErrTransactionSpoiled, len(entries), entries[0].Partition, entries[0].Offset)
	if err == nil || errors.Is(err, unilog.ErrTransactionSpoiled) {
		return where
	}
	return fmt.Errorf("%w: %w", where, err)
}
