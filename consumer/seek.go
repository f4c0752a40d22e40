package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/reader"
)

// Move is what a seek does in one partition.
type Move struct {
	Partition int
	// From and To are checkpoints: the last offsets that count as applied. From > To
	// applies records again, From < To passes over some.
	From, To int64
	// Parked are dead letters after To, which are removed: the records come again.
	Parked int64
}

// Target is where a consumer is to go on.
type Target struct {
	// Start is as for a new consumer, and the zero one is the first record. Offset is that
	// of the next record.
	Start unilog.Start
	// Partition is the one that is moved, or nil for all of them. An Offset needs it, if
	// there are several.
	Partition *int
	// Archive is the source's database, which says what there is: required but for an
	// Offset, which is not looked at without it. The consumer's transaction does, if that
	// is the same database.
	Archive Querier
	Reason  string
}

// ErrPartitions says that an offset was given for several partitions.
var ErrPartitions = errors.New("unilog: offsets are those of a partition: say which one")

// BeyondError says that the log is not as far as an offset that was asked for.
type BeyondError struct {
	Partition    int
	Offset, Next int64
}

func (e *BeyondError) Error() string {
	return fmt.Sprintf("unilog: the next offset of partition %d is %d, and %d is beyond it", e.Partition, e.Next, e.Offset)
}

const (
	// The position is found by the offset. Index: checkpoints_pkey.
	sqlMove = `
UPDATE unilog.checkpoints SET "offset" = $3, position = '', updated_at = clock_timestamp(), trouble = NULL, troubled_at = NULL, rejected = NULL
WHERE name = $1 AND partition = $2`

	// Index: dead_letters_pkey.
	sqlLettersAfter = `DELETE FROM unilog.dead_letters WHERE consumer = $1 AND partition = $2 AND "offset" > $3`
)

// Seek moves the checkpoints of a consumer or a deliverer, and returns what it has done. A
// consumer that runs goes on from there within a second; after Seek has returned, it
// applies nothing from where it was: the batch in hand, for which Seek waits, is applied
// before, or not at all. A deliverer finishes the call in hand.
//
// Moved back, a consumer applies records again that it has applied: its state is the
// handler's, and has to bear that. Moved ahead, it never applies what is between. Seek
// returns a [unilog.NotArchivedError] if the archive lacks the place, a [BeyondError] if
// it is not there yet, a [unilog.ForeignLogError] if the archive is that of another log
// than the consumer's, and [ErrUnknown] for a name, or a partition, without a checkpoint;
// it then changes nothing.
func (in In) Seek(ctx context.Context, db Beginner, name string, to Target) (moves []Move, err error) {
	if err := to.Start.Check(); err != nil {
		return nil, fmt.Errorf("seek: Target.Start: %w", err)
	}
	err = in.intervene(ctx, db, "seek", name, to.Partition, func(tx pgx.Tx, at []held) error {
		if to.Partition == nil && to.Start.Offset != 0 && len(at) > 1 {
			return ErrPartitions
		}
		if moves, err = in.moves(ctx, name, to, at); err != nil {
			return err
		}
		sql := unilog.Schema(in).SQL
		for i := range moves {
			m := &moves[i]
			if _, err := tx.Exec(ctx, sql(sqlMove), name, m.Partition, m.To); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, sql(sqlLettersAfter), name, m.Partition, m.To)
			if err != nil {
				return err
			}
			m.Parked = tag.RowsAffected()
			if err := in.note(ctx, tx, Intervention{What: "seek", Consumer: name, Partition: &m.Partition, From: &m.From, To: &m.To, Reason: to.Reason}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return moves, nil
}

// moves says where to, in each partition.
func (in In) moves(ctx context.Context, name string, to Target, at []held) ([]Move, error) {
	places := map[int]reader.Place{}
	if to.Archive != nil {
		all, err := reader.Archived(ctx, to.Archive, unilog.Schema(in), name, to.Start)
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			places[p.Partition] = p
		}
	} else if to.Start.Head || !to.Start.Time.IsZero() {
		return nil, errors.New("the head, or a time, is known to the source's database, which was not given")
	}
	var moves []Move
	for _, h := range at {
		p, known := places[h.Partition]
		switch {
		case known && h.LogID != "" && h.LogID != p.LogID:
			return nil, &unilog.ForeignLogError{Consumer: name, Partition: h.Partition, LogID: h.LogID, Theirs: p.LogID}
		case !known:
			p.After = max(to.Start.Offset, 1) - 1
		case to.Start.Head:
			p.After = max(p.After, h.Offset) // it may have read what is not known to be published
		case p.After > max(p.Published, h.Offset):
			return nil, &BeyondError{h.Partition, p.After + 1, p.Published + 1}
		}
		if known && !to.Start.Head {
			if err := p.Check(name, to.Start); err != nil {
				return nil, err
			}
		}
		moves = append(moves, Move{Partition: h.Partition, From: h.Offset, To: p.After})
	}
	return moves, nil
}
