package unilogtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

// Begin begins a transaction, which is rolled back when the test ends.
func Begin(t testing.TB, db *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// Apply gives records to a handler, as entries of partition 0 from offset 1 on, and returns
// its error, after which the transaction is as it was before. What it has written can be
// seen in the transaction until that is rolled back; see [Begin].
//
// The records are staged and read again for it, and not left staged: so Apply returns what
// [unilog.Stage] would, and the handler sees what it will see later.
func Apply(ctx context.Context, tx pgx.Tx, handler consumer.Handler, records ...unilog.Record) error {
	if len(records) == 0 {
		return errors.New("unilogtest: no records to apply")
	}
	entries, err := entriesOf(ctx, tx, records)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { return handler(ctx, tx, entries) })
}

// entriesOf returns records as a consumer gets them.
func entriesOf(ctx context.Context, tx pgx.Tx, records []unilog.Record) ([]unilog.Entry, error) {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer savepoint.Rollback(ctx) //nolint:errcheck // the next statement says so
	if err := unilog.Stage(ctx, savepoint, records...); err != nil {
		return nil, err
	}
	staged, err := Staged(ctx, savepoint)
	if err != nil {
		return nil, err
	}
	var entries []unilog.Entry
	for i, r := range staged[len(staged)-len(records):] {
		entries = append(entries, unilog.Entry{Record: r, Offset: int64(i + 1), StagedAt: time.Now().UTC().Truncate(time.Microsecond)})
	}
	return entries, nil
}

// Drain numbers and publishes all that is staged and committed, lets the consumers apply
// it, and does so again while their handlers stage more. Of each consumer it needs the
// Handler, and a Name if there are several. DB, Archive and Log are this database, unless
// they are set. What a consumer has applied in one Drain it does not get in the next.
//
// The test ends if a handler rejects a record, or if anything else keeps a record from
// being applied, such as a streamer that runs beside the test. A server that is only slow is
// waited for.
func Drain(t testing.TB, db *pgxpool.Pool, consumers ...consumer.Config) {
	t.Helper()
	log, err := pglog.Open(t.Context(), db, unilog.DefaultSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	quiet := slog.New(slog.DiscardHandler)
	publisher, err := streamer.New(streamer.Config{DB: db, Log: log, Logger: quiet, SessionTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	steps := []func(context.Context) (int, error){publisher.RunOnce}
	for _, cfg := range consumers {
		c, err := consumer.New(fill(cfg, db, log, quiet))
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, c.RunOnce)
	}
	for did := 1; did > 0; {
		did = 0
		for _, step := range steps {
			n, err := insist(t.Context(), step)
			if errors.Is(err, unilog.ErrStandby) {
				err = fmt.Errorf("%w: Drain needs a database in which no other streamer runs", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			did += n
		}
	}
}

// patience is for how long Drain tries again what a server does not do in time.
const patience = 5 * time.Minute

// insist takes a step, again as long as a call of it takes too long: a machine that is busy may
// let a server stand still for a while. What came of such a call nobody knows, so that something
// may have been done.
func insist(ctx context.Context, step func(context.Context) (int, error)) (did int, err error) {
	slow := false
	for began := time.Now(); time.Since(began) < patience; {
		var n int
		n, err = step(ctx)
		did += n
		late := errors.Is(err, context.DeadlineExceeded) && !errors.As(err, new(*unilog.RejectedError))
		gone := errors.Is(err, unilog.ErrStandby) // the session that was given up may still lead
		if ctx.Err() != nil || !late && !(slow && gone) {
			return did, err
		}
		if !slow {
			slow, did = true, did+1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return did, fmt.Errorf("the server has been too slow for %v: %w", patience, err)
}

func fill(cfg consumer.Config, db *pgxpool.Pool, log unilog.Log, quiet *slog.Logger) consumer.Config {
	if cfg.Name == "" {
		cfg.Name = "unilogtest"
	}
	if cfg.DB == nil {
		cfg.DB = db
	}
	if cfg.Archive == nil {
		cfg.Archive = db
	}
	if cfg.Log == nil {
		cfg.Log = log
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	return cfg
}
