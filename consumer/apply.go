package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// sqlAdvance moves a checkpoint from where it was saved before ($3). That comparison makes
// two instances of one consumer harmless: the second one finds no row, and rolls
// back. The timeout ($6) keeps a frozen process from holding the row for ever. For $7
// see unsynced. Who pauses the consumer holds the row, so that afterwards nothing is
// applied. Index: checkpoints_pkey.
const sqlAdvance = `
WITH bounded AS MATERIALIZED (
    SELECT set_config('idle_in_transaction_session_timeout', $6, true),
        CASE WHEN $7 THEN set_config('synchronous_commit', 'off', true) END
)
UPDATE unilog.checkpoints SET "offset" = $4, position = $5, updated_at = clock_timestamp(),
    log_id = nullif($8, ''), trouble = NULL, troubled_at = NULL, rejected = NULL
FROM bounded
WHERE name = $1 AND partition = $2 AND "offset" = $3 AND paused_at IS NULL`

// errOvertaken says that the checkpoint is no longer where the batch begins: another
// instance of the consumer has applied it, or a person has moved or paused the consumer.
var errOvertaken = errors.New("the checkpoint was moved by somebody else")

// apply applies entries, which follow the checkpoint and what was passed over, and
// returns how many it applied, passed over or parked. If the handler rejects them, apply
// halves them until it knows which one is rejected. It applies those before that one.
func (c *partitionConsumer) apply(ctx context.Context, entries []unilog.Entry) (int, error) {
	err := c.commit(ctx, entries, c.cfg.HandlerTimeout, c.handle)
	var rejection *rejection
	if errors.As(err, &rejection) && len(entries) == 1 {
		// Ask once more: some failures pass, such as that of a query plan which a
		// migration has made invalid.
		err = c.commit(ctx, entries, c.cfg.HandlerTimeout, c.handle)
	}
	switch {
	case err == nil:
		c.noteApplied(entries)
		return len(entries), nil
	case errors.Is(err, errOvertaken):
		return 0, c.unlessOvertaken(err)
	case !errors.As(err, &rejection):
		return 0, err
	case len(entries) > 1:
		half := len(entries) / 2
		n, err := c.apply(ctx, entries[:half])
		if err != nil || n < half {
			return n, err
		}
		m, err := c.apply(ctx, entries[half:])
		return n + m, err
	case !c.cfg.ParkRejected:
		return 0, c.rejected(entries[0], rejection.err)
	}
	err = c.commit(ctx, entries, loop.CallTimeout, func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
		defer cancel()
		if len(c.cfg.Only) > 0 {
			if err := reader.CheckRun(ctx, tx, c.cfg.Schema, c.cfg.Name, entries[0], c.applied+1, rejection.err); err != nil {
				return err
			}
		}
		return reader.Park(ctx, tx, c.cfg.Schema, c.cfg.Name, entries[0], rejection.err)
	})
	if run := new(reader.RunError); errors.As(err, &run) {
		return 0, c.rejected(entries[0], run)
	}
	if err != nil {
		return 0, c.unlessOvertaken(err)
	}
	c.cfg.Observer.parked(entries[0], rejection.err)
	c.log.Error("record rejected: parked in dead_letters", "offset", entries[0].Offset, "err", rejection.err)
	return 1, nil
}

func (c *partitionConsumer) rejected(e unilog.Entry, why error) error {
	return &unilog.RejectedError{Consumer: c.cfg.Name, Partition: c.partition, Offset: e.Offset, Err: why}
}

// unlessOvertaken returns err, but nil for errOvertaken: then the checkpoint is read
// again.
func (c *partitionConsumer) unlessOvertaken(err error) error {
	if !errors.Is(err, errOvertaken) {
		return err
	}
	c.log.Info("somebody else has moved the checkpoint, or paused the consumer: reading it again", "offset", c.reader.Saved().Offset)
	c.reader.Forget()
	return nil
}

// commit runs f, which has so long, on those of the entries that were asked for, and
// advances the checkpoint over all of them in one transaction, then calls hooks and
// observer.
func (c *partitionConsumer) commit(ctx context.Context, entries []unilog.Entry, timeout time.Duration, f Handler) error {
	began, to := time.Now(), entries[len(entries)-1].Cursor()
	asked := c.askedOf(entries)
	if len(asked) == 0 { // the half of a batch
		c.reader.Pass(to)
		return c.savePassed(ctx)
	}
	passed := to.Offset - c.reader.Saved().Offset - int64(len(asked))
	err := c.save(ctx, to, func(ctx context.Context, tx pgx.Tx) error {
		hung := fmt.Errorf("%w (partition %d, from offset %d)", errHung, c.partition, asked[0].Offset)
		return c.condition.hang.Call(ctx, timeout+c.cfg.grace, hung, func() error {
			if err := f(ctx, tx, asked); err != nil {
				return err
			}
			return loop.CallHook(ctx, c.cfg.Hooks.BeforeCommit, asked)
		})
	})
	if err != nil {
		return err
	}
	c.cfg.Observer.passedOver(passed)
	c.cfg.Observer.committed(asked, time.Since(began))
	if c.cfg.Hooks.AfterCommit != nil {
		c.cfg.Hooks.AfterCommit(ctx, asked)
	}
	return nil
}

// save advances the checkpoint and calls f, in one transaction. The checkpoint comes
// first: the lock on its row makes other instances of the consumer wait before they do
// any work.
func (c *partitionConsumer) save(ctx context.Context, to unilog.Cursor, f func(context.Context, pgx.Tx) error) error {
	var advance pgx.Batch
	silence := fmt.Sprint(c.cfg.silence.Milliseconds())
	advance.BeginTx(pgx.TxOptions{})
	advance.Queue(c.cfg.Schema.SQL(sqlAdvance), c.cfg.Name, c.partition, c.reader.Saved().Offset, to.Offset, to.Position, silence, unsynced(c.cfg), c.checkpoint.logID)
	err := c.transact(ctx, &advance, errOvertaken, f)
	if err == nil {
		c.reader.Advance(to)
	}
	return err
}

// transact begins with what is queued, of which the last statement has to change a row, or
// the error is none, and calls f, all in one transaction.
func (c *partitionConsumer) transact(ctx context.Context, begin *pgx.Batch, none error, f func(context.Context, pgx.Tx) error) error {
	bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	conn, err := c.cfg.DB.Acquire(bounded)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := postgres.CheckEncoding(conn.Conn()); err != nil {
		conn.Release()
		return err
	}
	session, err := sessionOf(bounded, conn)
	if err != nil {
		drop(conn)
		return fmt.Errorf("begin: %w", err)
	}
	c.sets = false
	tx, advanced, err := c.begin(bounded, conn, begin)
	if err == nil && !advanced {
		err = none
	}
	if err == nil {
		err = f(ctx, tx)
	}
	switch {
	case errors.Is(err, errHung):
		cut(conn)
		return err
	case err != nil && (conn.Conn().PgConn().TxStatus() == idle || postgres.IsSetup(err)):
		drop(conn) // who knows what was done since, or whether another one would do
		return err
	case err != nil:
		postgres.Rollback(tx)
		conn.Release()
		return err
	}
	bounded, cancel = context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	after, err := c.end(bounded, conn, tx, session)
	if err != nil {
		postgres.Rollback(tx)
		conn.Release()
		return err
	}
	if slices.Equal(session.settings, after) {
		conn.Release()
	} else {
		c.left(session.settings, after)
		drop(conn)
	}
	return nil
}

// begin sends the beginning of a transaction, in one round trip, and says whether its last
// statement has changed a row. The caller must roll the transaction back, also after an
// error.
func (c *partitionConsumer) begin(ctx context.Context, conn *pgxpool.Conn, batch *pgx.Batch) (tx pgx.Tx, advanced bool, err error) {
	results := conn.SendBatch(ctx, batch)
	if _, err = results.Exec(); err != nil {
		err = fmt.Errorf("begin: %w", err)
	}
	for range batch.Len() - 1 {
		if err == nil {
			var tag pgconn.CommandTag
			if tag, err = results.Exec(); err != nil {
				err = fmt.Errorf("advance the checkpoint: %w", err)
			}
			advanced = tag.RowsAffected() > 0
		}
	}
	if closeErr := results.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("advance the checkpoint: %w", closeErr)
	}
	return results.Tx(), advanced, err
}

// end commits, and returns the session's settings as they are then, which it asks for
// where they may have changed, and else from time to time.
func (c *partitionConsumer) end(ctx context.Context, conn *pgxpool.Conn, tx pgx.Tx, session *session) (after []string, err error) {
	if c.sets || time.Since(session.looked) > settingsPause {
		var batch pgx.Batch
		batch.Queue(`commit`)
		batch.Queue(sqlSettings)
		results := conn.SendBatch(ctx, &batch)
		if _, err = results.Exec(); err == nil && results.QueryRow().Scan(&after) != nil {
			after = nil // it is committed all the same
		}
		_ = results.Close()
		session.looked = time.Now()
	} else {
		after, err = session.settings, tx.Commit(ctx)
	}
	if err == nil {
		return after, nil
	}
	err = fmt.Errorf("commit: %w", err)
	// A deferred constraint: the same entries would fail again.
	if postgres.SQLState(err) != "" && !postgres.IsTransient(err) && !postgres.IsSetup(err) {
		return nil, &rejection{err}
	}
	return nil, err
}

// unsynced says whether commits need not wait for the disk: if the state is in the
// archive's own database. A crash that undoes the last commits then undoes state and
// checkpoint together, and the archive still has the entries: a batch is deleted by
// a later commit, which is never on disk without the earlier ones.
func unsynced(cfg *Config) bool { return cfg.Archive == cfg.DB }

// rejection is the error of a handler that cannot apply the entries it was given, and
// would not another time.
type rejection struct{ err error }

func (r *rejection) Error() string { return r.err.Error() }

func (c *partitionConsumer) handle(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
	bounded, cancel := context.WithTimeout(ctx, c.cfg.HandlerTimeout)
	defer cancel()
	given := &handlersTx{Tx: tx}
	err := callHandler(bounded, c.cfg.Handler, c.log, given, entries)
	c.sets = given.sets
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: the handler had %v for %d records from offset %d: %w",
			bounded.Err(), c.cfg.HandlerTimeout, len(entries), entries[0].Offset, err)
	}
	return err
}
