package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

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
}

func (tx *handlersTx) Commit(context.Context) error {
	tx.spoilt = true
	return unilog.ErrTransactionSpoiled
}

func (tx *handlersTx) Rollback(context.Context) error {
	tx.spoilt = true
	return unilog.ErrTransactionSpoiled
}

// callHandler calls a handler and tells its rejections, which it marks, from failures
// that the records are not to blame for.
func callHandler(ctx context.Context, handler Handler, log *slog.Logger, tx pgx.Tx, entries []unilog.Entry) (err error) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("handler panicked", "first", entries[0].Offset, "panic", p, "stack", string(debug.Stack()))
			err = &rejection{fmt.Errorf("panic: %v", p)}
		}
	}()
	given := &handlersTx{Tx: tx}
	err = handler(ctx, given, entries)
	code := postgres.SQLState(err)
	switch {
	case tx.Conn().IsClosed():
		return err // the commit fails, if nothing has
	case err == nil && !given.spoilt && tx.Conn().PgConn().TxStatus() == inTransaction:
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
