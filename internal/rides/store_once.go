package rides

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// lockKeysSQL locks the keys that no other transaction has in hand, and notes
	// which. It is a statement of its own: what the one that follows sees was
	// committed before the locks were granted, or after, but not between.
	lockKeysSQL = `
		SELECT set_config('rides.locked_keys', coalesce(string_agg(n::text, ','), ''), true)
		FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (caller, key, n)
		WHERE key IS NOT NULL AND pg_try_advisory_xact_lock(1970040681, hashtext(caller || ' ' || key))`

	// todaySQL is the slot of the keys that are written now.
	todaySQL = `(extract(epoch FROM now())::bigint / 86400 % 3)::integer`

	// insertOnceSQL is [insertRidesSQL] for requests that may have been answered
	// before. Index: idempotency_keys_0_pkey and so on.
	insertOnceSQL = `
		WITH once AS MATERIALIZED (
			SELECT today, (today + 2) % 3 AS yesterday, string_to_array(current_setting('rides.locked_keys'), ',')::bigint[] AS locked
			FROM (SELECT ` + todaySQL + ` AS today) AS t
		), asked AS MATERIALIZED (
			SELECT a.*, n = ANY (locked) AS locked, today, yesterday
			FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) WITH ORDINALITY AS a (distance, caller, key, fingerprint, n), once
		), known AS MATERIALIZED (
			SELECT asked.n, k.ride_id, k.created_at, k.distance, k.fingerprint = asked.fingerprint AS same
			FROM asked CROSS JOIN LATERAL (
				SELECT * FROM idempotency_keys
				WHERE caller = asked.caller AND key = asked.key AND slot IN (asked.today, asked.yesterday)
				LIMIT 1 -- so that no plan reads the whole table for a join
			) AS k
		), fresh AS MATERIALIZED (
			SELECT *, row_number() OVER (ORDER BY n) AS nth
			FROM asked
			WHERE key IS NULL OR locked AND NOT EXISTS (SELECT FROM known WHERE known.n = asked.n)
		), ride AS (
			INSERT INTO rides (distance)
			SELECT distance::numeric
			FROM fresh
			ORDER BY n
			RETURNING id, created_at, distance
		), record AS (
			INSERT INTO staged_log_records (action, object, key, data)
			SELECT '` + recordAction + `', '` + recordObject + `', id::text, jsonb_build_object('id', id, 'distance', distance)
			FROM ride
			ORDER BY ride.id -- a bare id would be the text above
		), booked AS MATERIALIZED (
			SELECT fresh.n, r.id, r.created_at, r.distance, fresh.caller, fresh.key, fresh.fingerprint, fresh.today
			FROM (SELECT *, row_number() OVER (ORDER BY id) AS nth FROM ride) AS r JOIN fresh USING (nth)
		), kept AS (
			INSERT INTO idempotency_keys (slot, caller, key, fingerprint, ride_id, created_at, distance)
			SELECT today, caller, key, fingerprint, id, created_at, distance
			FROM booked
			WHERE key IS NOT NULL
		)
		SELECT n, id, created_at, distance::text, true FROM booked
		UNION ALL
		SELECT n, ride_id, created_at, distance::text, same FROM known
		ORDER BY 1`
)

// order is a ride that is asked for, with a claim if it may come again.
type order struct {
	distance Distance
	claim    *claim
}

// verdict is what became of a request: a ride, new or booked when the request
// came first, or why there is none.
type verdict struct {
	ride Ride
	err  error
}

// createOnce is [CreateRides] for orders of which some have claims. The
// verdicts are in the orders' order.
func createOnce(ctx context.Context, db *pgx.Conn, orders []order) ([]verdict, error) {
	var (
		distances    = make([]string, len(orders))
		callers      = make([]*string, len(orders))
		keys         = make([]*string, len(orders))
		fingerprints = make([][]byte, len(orders))
		verdicts     = make([]verdict, len(orders))
	)
	for i, o := range orders {
		distances[i] = o.distance.String()
		verdicts[i].err = errInFlight // of those who get no answer
		if o.claim != nil {
			callers[i], keys[i], fingerprints[i] = &o.claim.caller, &o.claim.key, o.claim.fingerprint
		}
	}
	// Not yet sent, so its outcome is known.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create rides: %w", err)
	}
	batch := &pgx.Batch{}
	batch.Queue(lockKeysSQL, callers, keys)
	answered := 0
	batch.Queue(insertOnceSQL, distances, callers, keys, fingerprints).Query(func(rows pgx.Rows) error {
		var n int
		var ride Ride
		var same bool
		_, err := pgx.ForEachRow(rows, []any{&n, &ride.ID, &ride.CreatedAt, &ride.Distance.plain, &same}, func() error {
			answered++
			ride.CreatedAt = ride.CreatedAt.UTC()
			verdicts[n-1] = verdict{ride: ride}
			if !same {
				verdicts[n-1] = verdict{err: errKeyReused}
			}
			return nil
		})
		return err
	})
	err := db.SendBatch(ctx, batch).Close()
	switch {
	case err == nil:
		return verdicts, nil
	case rolledBack(err, answered == 0):
		return nil, fmt.Errorf("create rides: %w", err)
	}
	return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

const (
	// keySlotPause is the time between looks whether keys have expired.
	keySlotPause = 10 * time.Minute
	// keySlotTimeout bounds one.
	keySlotTimeout = 5 * time.Second

	// Reads the first row there is.
	oldKeysSQL = `
		SELECT old.slot, EXISTS (SELECT FROM idempotency_keys AS k WHERE k.slot = old.slot)
		FROM (SELECT (` + todaySQL + ` + 1) % 3 AS slot) AS old`

	// It holds the lock that keeps writers out, so whether the slot is still the
	// old one does not change before it is emptied.
	stillOldSQL = `SELECT (extract(epoch FROM clock_timestamp())::bigint / 86400 + 1) % 3 = $1`
)

// forgetKeys empties the slot that is neither today's nor yesterday's.
func forgetKeys(ctx context.Context, db Database) error {
	ctx, cancel := context.WithTimeout(ctx, keySlotTimeout)
	defer cancel()
	conn, err := db.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer release(conn)
	var slot int
	var used bool
	if err := conn.QueryRow(ctx, oldKeysSQL).Scan(&slot, &used); err != nil {
		return fmt.Errorf("look for old idempotency keys: %w", err)
	}
	if !used {
		return nil
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		table := pgx.Identifier{fmt.Sprintf("idempotency_keys_%d", slot)}.Sanitize()
		// Everyone who books would queue up behind a lock that is waited for.
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '100ms'`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `LOCK TABLE `+table+` IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		var old bool
		if err := tx.QueryRow(ctx, stillOldSQL, slot).Scan(&old); err != nil || !old {
			return err
		}
		_, err := tx.Exec(ctx, `TRUNCATE `+table)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove old idempotency keys: %w", err)
	}
	return nil
}

// forgetKeysInTime removes expired keys until ctx ends.
func (a *API) forgetKeysInTime(ctx context.Context) {
	tick := time.NewTicker(keySlotPause)
	defer tick.Stop()
	for {
		// A busy or absent database says so elsewhere, and passes.
		if err := forgetKeys(ctx, a.cfg.DB); err != nil && ctx.Err() == nil && unavailable(err) == "" {
			a.cfg.Log.Warn("old idempotency keys stay, and take up room: trying again", "in", keySlotPause, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
