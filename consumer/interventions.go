package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Intervention is what a person has done to a consumer or a deliverer, as the table
// interventions keeps it.
type Intervention struct {
	At time.Time
	// Who is the user of Postgres.
	Who string
	// What is seek, pause, resume, skip or requeue.
	What     string
	Consumer string
	// Partition is nil if it is about all of them. From and To are checkpoints, before and
	// after; of a skip and a requeue, To is the record's offset.
	Partition *int
	From, To  *int64
	Reason    string
}

// PauseError says that a consumer cannot be paused, since it is, or cannot be resumed,
// since it is not.
type PauseError struct {
	Consumer string
	// Since and By are zero for one that is not paused.
	Since time.Time
	By    string
}

func (e *PauseError) Error() string {
	if e.Since.IsZero() {
		return fmt.Sprintf("unilog: %s is not paused", e.Consumer)
	}
	return fmt.Sprintf("unilog: %s is paused already, since %s, by %s", e.Consumer, e.Since.UTC().Format(time.RFC3339), e.By)
}

const (
	// Index: interventions_of_consumer, for the next statement.
	sqlNote = `
INSERT INTO unilog.interventions (what, consumer, partition, from_offset, to_offset, reason)
VALUES ($1, $2, $3, $4, $5, $6)`

	// Index: interventions_of_consumer.
	sqlInterventions = `
SELECT at, who, what, consumer, partition, from_offset, to_offset, reason FROM unilog.interventions
WHERE consumer = $1 ORDER BY id DESC LIMIT $2`

	// The locks make a consumer that runs wait, so that what it had in hand is applied as a
	// whole or not at all. Index: checkpoints_pkey.
	sqlHoldSome = `
SELECT partition, "offset", coalesce(log_id, ''), paused_at, coalesce(paused_by, '') FROM unilog.checkpoints
WHERE name = $1 AND ($2::integer IS NULL OR partition = $2) ORDER BY partition FOR UPDATE`

	// Index: checkpoints_pkey.
	sqlPause  = `UPDATE unilog.checkpoints SET paused_at = clock_timestamp(), paused_by = session_user WHERE name = $1`
	sqlResume = `UPDATE unilog.checkpoints SET paused_at = NULL, paused_by = NULL WHERE name = $1`
)

// held is a checkpoint that is locked.
type held struct {
	Partition int
	Offset    int64
	LogID     string // empty if it is not known yet
	PausedAt  *time.Time
	PausedBy  string
}

// intervene runs f in a transaction that holds checkpoints of a consumer: all, or that of
// one partition. It returns [ErrUnknown] if there are none.
func (in In) intervene(ctx context.Context, db Beginner, what, name string, partition *int, f func(tx pgx.Tx, at []held) error) error {
	sql := unilog.Schema(in).SQL
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := postgres.CheckVisible(ctx, tx, unilog.Schema(in).Name(), "checkpoints", "dead_letters", "interventions"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sql(locks.SQLIntervention), name); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, sql(sqlHoldSome), name, partition)
		if err != nil {
			return err
		}
		at, err := pgx.CollectRows(rows, pgx.RowToStructByPos[held])
		if err == nil && len(at) == 0 {
			err = ErrUnknown
		}
		if err != nil {
			return err
		}
		return f(tx, at)
	})
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, name, postgres.Explain(err))
	}
	return nil
}

func (in In) note(ctx context.Context, tx pgx.Tx, i Intervention) error {
	_, err := tx.Exec(ctx, unilog.Schema(in).SQL(sqlNote), i.What, i.Consumer, i.Partition, i.From, i.To, i.Reason)
	return err
}

// Pause makes a consumer, or a deliverer, apply nothing until [In.Resume], also if it is
// started anew. When Pause returns, a consumer applies nothing any more: Pause waits for
// the transactions in hand. A deliverer finishes the calls in hand, and makes none from
// about a second later on. Processes that run keep their leases, count as ready, and show
// that they are alive, so that what they need is kept. Pause returns a [PauseError] for
// one that is paused, and [ErrUnknown] for a name without a checkpoint.
func (in In) Pause(ctx context.Context, db Beginner, name, reason string) error {
	return in.intervene(ctx, db, "pause", name, nil, func(tx pgx.Tx, at []held) error {
		for _, h := range at {
			if h.PausedAt != nil {
				return &PauseError{name, *h.PausedAt, h.PausedBy}
			}
		}
		if _, err := tx.Exec(ctx, unilog.Schema(in).SQL(sqlPause), name); err != nil {
			return err
		}
		return in.note(ctx, tx, Intervention{What: "pause", Consumer: name, Reason: reason})
	})
}

// Resume lets a consumer go on that is paused.
func (in In) Resume(ctx context.Context, db Beginner, name, reason string) error {
	return in.intervene(ctx, db, "resume", name, nil, func(tx pgx.Tx, at []held) error {
		paused := false
		for _, h := range at {
			paused = paused || h.PausedAt != nil
		}
		if !paused {
			return &PauseError{Consumer: name}
		}
		if _, err := tx.Exec(ctx, unilog.Schema(in).SQL(sqlResume), name); err != nil {
			return err
		}
		return in.note(ctx, tx, Intervention{What: "resume", Consumer: name, Reason: reason})
	})
}

// Interventions returns the last ones with a consumer, the newest first.
func (in In) Interventions(ctx context.Context, db Querier, name string, most int) ([]Intervention, error) {
	rows, err := db.Query(ctx, unilog.Schema(in).SQL(sqlInterventions), name, most)
	if err != nil {
		return nil, fmt.Errorf("read interventions: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Intervention])
	if err != nil {
		return nil, fmt.Errorf("read interventions: %w", postgres.Explain(err))
	}
	return all, nil
}
