package torture

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// postgresFaults befall Postgres.
var postgresFaults = []fault{
	{name: "kill-postgres", does: "SIGKILL to Postgres", inject: server("postgres", syscall.SIGKILL)},
	{name: "restart-postgres", does: "fast shutdown of Postgres, which aborts what is open", inject: server("postgres", syscall.SIGINT)},
	{name: "crash-postgres", does: "SIGKILL to one of its backends, so that all start again from the disk", inject: crashBackend},
	{name: "end-sessions", does: "Postgres ends all sessions", inject: endSessions},
	{name: "cancel-queries", does: "Postgres cancels what runs in all sessions", inject: cancelQueries},
	{name: "readonly-postgres", does: "Postgres takes no writes for up to 2 s", inject: readOnly},
	{name: "lock-table", does: "somebody locks a table for up to 2 s", inject: lockTable},
	{name: "open-writer", does: "a writer keeps its transaction open for up to 5 s, then commits or rolls back", inject: openWriter, fromStart: true},
	{name: "open-snapshot", does: "a report keeps its snapshot open for up to 5 s", inject: openSnapshot, fromStart: true},
}

func server(name string, sig syscall.Signal) func(context.Context, *injection) error {
	return func(_ context.Context, x *injection) error { return x.system.Signal(name, sig) }
}

const (
	sqlBackends = `
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> $1 ORDER BY pid`
	sqlEndSessions   = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> $1`
	sqlCancelQueries = `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name <> $1`
)

func crashBackend(ctx context.Context, x *injection) error {
	rows, err := x.db.Query(ctx, sqlBackends, self)
	if err != nil {
		return err
	}
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil || len(pids) == 0 {
		return errors.Join(errNotNow, err)
	}
	return syscall.Kill(pids[x.random.IntN(len(pids))], syscall.SIGKILL)
}

func endSessions(ctx context.Context, x *injection) error {
	_, err := x.db.Exec(ctx, sqlEndSessions, self)
	return err
}

func cancelQueries(ctx context.Context, x *injection) error {
	_, err := x.db.Exec(ctx, sqlCancelQueries, self)
	return err
}

// readOnly takes effect for new sessions, so it ends the old ones.
func readOnly(ctx context.Context, x *injection) error {
	if _, err := x.db.Exec(ctx, `ALTER DATABASE rocketrides SET default_transaction_read_only = on`); err != nil {
		return err
	}
	_, err := x.db.Exec(ctx, sqlEndSessions, self)
	pause(ctx, x.lasting(2*time.Second))
	return errors.Join(err, mend(ctx, func(ctx context.Context) error {
		if _, err := x.db.Exec(ctx, `ALTER DATABASE rocketrides RESET default_transaction_read_only`); err != nil {
			return err
		}
		return endSessions(ctx, x)
	}))
}

func lockTable(ctx context.Context, x *injection) error {
	tables := []string{"rides", "unilog.staged_records", "unilog.log", "unilog.partitions", "unilog.batches", "unilog.checkpoints", "consumer_states"}
	table := tables[x.random.IntN(len(tables))]
	return x.within(ctx, x.lasting(2*time.Second), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '1s'`); err != nil {
			return err
		}
		// Not against the audit, which reads.
		_, err := tx.Exec(ctx, fmt.Sprintf(`LOCK TABLE %s IN EXCLUSIVE MODE`, table))
		return err
	}, false, nil)
}

func openSnapshot(ctx context.Context, x *injection) error {
	return x.within(ctx, x.lasting(5*time.Second), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM unilog.staged_records`)
		return err
	}, false, x.begun)
}

// sqlOwnKey gives a ride a key, as those that are booked at the api have one.
const sqlOwnKey = `
INSERT INTO idempotency_keys (slot, key, fingerprint, ride_id, created_at, distance)
SELECT (extract(epoch FROM now())::bigint / 86400 % 3)::integer, gen_random_uuid(), gen_random_uuid(), id, created_at, distance
FROM rides WHERE id = $1`

func openWriter(ctx context.Context, x *injection) error {
	return x.within(ctx, x.lasting(5*time.Second), func(tx pgx.Tx) error {
		for range 1 + x.random.IntN(10) {
			distance, err := rides.ParseDistance(fmt.Sprintf("%d.%02d", 5+x.random.IntN(995), x.random.IntN(100)))
			if err != nil {
				return err
			}
			ride, err := rides.CreateRide(ctx, tx, "", distance)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, sqlOwnKey, ride.ID); err != nil {
				return err
			}
		}
		return nil
	}, x.random.IntN(2) == 0, x.begun)
}

// within keeps a transaction open after it has done something, and says when it
// has.
func (x *injection) within(ctx context.Context, d time.Duration, do func(pgx.Tx) error, commit bool, begun chan struct{}) error {
	tx, err := x.db.Begin(ctx)
	if err != nil {
		return err
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), mendTimeout)
	defer cancel()
	defer func() { _ = tx.Rollback(end) }()
	if err := do(tx); err != nil {
		return err
	}
	if begun != nil {
		close(begun)
	}
	pause(ctx, d)
	if commit {
		return tx.Commit(end)
	}
	return nil
}

// mendTimeout bounds the end of a fault.
const mendTimeout = 30 * time.Second

// mend does what ends a fault until it has succeeded, even if ctx has ended.
func mend(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), mendTimeout)
	defer cancel()
	for {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, 50*time.Millisecond)
	}
}
