package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// NotNextError says that a record cannot be skipped, since a consumer is elsewhere.
type NotNextError struct {
	Consumer     string
	Partition    int
	Offset, Next int64
}

func (e *NotNextError) Error() string {
	return fmt.Sprintf("unilog: the next record of %s in partition %d is %d, and only that can be skipped, not %d", e.Consumer, e.Partition, e.Next, e.Offset)
}

// ErrOwnEntry is returned by Skip for an entry that the log itself has made: without it,
// consumers would mix up the order of keys.
var ErrOwnEntry = errors.New("unilog: this is not a record, but an entry of the log's own: it cannot be skipped")

// Skip puts a record into dead_letters in the place of a consumer, or a deliverer, that it
// is next for, with the reason, and lets that go on after it, in one transaction. It waits
// for the batch in hand. It returns a [NotNextError] if the record is not the next one,
// [ErrOwnEntry] for a barrier, and [ErrUnknown] for a name or a partition without a
// checkpoint; it then changes nothing.
func (in In) Skip(ctx context.Context, db Beginner, name string, e unilog.Entry, reason string) error {
	return in.intervene(ctx, db, "skip", name, &e.Partition, func(tx pgx.Tx, at []held) error {
		switch {
		case at[0].Offset+1 != e.Offset:
			return &NotNextError{name, e.Partition, e.Offset, at[0].Offset + 1}
		case e.Object == unilog.ReservedObject:
			return ErrOwnEntry
		}
		if err := reader.Park(ctx, tx, unilog.Schema(in), name, e, &reader.Skip{Reason: reason}); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, unilog.Schema(in).SQL(sqlMove), name, e.Partition, e.Offset); err != nil {
			return err
		}
		return in.note(ctx, tx, Intervention{What: "skip", Consumer: name, Partition: &e.Partition, From: &at[0].Offset, To: &e.Offset, Reason: reason})
	})
}

// Index: dead_letters_pkey.
const sqlRequeue = `
UPDATE unilog.dead_letters SET requeued_at = clock_timestamp()
WHERE consumer = $1 AND partition = $2 AND "offset" = $3 AND discarded_at IS NULL`

// Requeue asks a consumer, or a deliverer, to take a dead letter again, with its own
// handler: within a second, if it runs and is not paused. A consumer applies it in one
// transaction with its removal, and so once, though out of its order. One that is rejected
// again stays, with the new reason. Requeue returns [ErrNoDeadLetter] if there is none.
func (in In) Requeue(ctx context.Context, db Beginner, name string, partition int, offset int64) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		sql := unilog.Schema(in).SQL
		if _, err := tx.Exec(ctx, sql(locks.SQLIntervention), name); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sql(sqlRequeue), name, partition, offset)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return ErrNoDeadLetter
		}
		return in.note(ctx, tx, Intervention{What: "requeue", Consumer: name, Partition: &partition, To: &offset})
	})
	if err != nil && !errors.Is(err, ErrNoDeadLetter) {
		return fmt.Errorf("requeue a dead letter: %w", postgres.Explain(err))
	}
	return err
}
