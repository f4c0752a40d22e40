package rides

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/rocketrides/unilog"
)

const (
	// noSeqScanSQL is for the rest of the transaction. To Postgres, a slot that has
	// just begun to fill up is empty: what is planned with that in mind reads it
	// whole.
	noSeqScanSQL = `SELECT set_config('enable_seqscan', 'off', true)`

	// readCommittedSQL is for this transaction, whatever the database's default is:
	// else what it sees is older than its locks. It must come first.
	readCommittedSQL = `SET transaction_isolation = 'read committed'`

	// lockKeysSQL locks the keys that no other transaction has in hand, and notes
	// which. It is a statement of its own: what the one that follows sees was
	// committed before the locks were granted, or after, but not between.
	lockKeysSQL = `
		SELECT set_config('rides.locked_keys', coalesce(string_agg(n::text, ','), ''), true)
		FROM unnest($1::bigint[]) WITH ORDINALITY AS asked (key, n)
		WHERE pg_try_advisory_xact_lock(key)`

	// todaySQL is the slot of the keys that are written now.
	todaySQL = `(extract(epoch FROM now())::bigint / 86400 % 3)::integer`

	// insertOnceSQL is [insertRidesSQL] for requests that may have been answered
	// before: it leaves out those whose key is known, or in other hands. The ids
	// are taken first, so that no ride has to be found again by its place. It looks
	// at all slots: it may have begun before midnight and been held up, while
	// another one booked in the slot of the next day.
	// Index: idempotency_keys_0_pkey and so on, given noSeqScanSQL.
	insertOnceSQL = `
		WITH once AS MATERIALIZED (
			SELECT ` + todaySQL + ` AS today, string_to_array(current_setting('rides.locked_keys'), ',')::bigint[] AS locked
		), fresh AS MATERIALIZED (
			SELECT n, key, fingerprint, distance::numeric, headers, nextval('rides_id_seq') AS id
			FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[]) WITH ORDINALITY AS asked (distance, key, fingerprint, headers, n)
			WHERE key IS NULL OR n = ANY ((SELECT locked FROM once)::bigint[]) AND key <> ALL (ARRAY(
				SELECT key FROM idempotency_keys
				WHERE slot IN (0, 1, 2) AND key = ANY ($2)
			))
		), ride AS (
			INSERT INTO rides (id, distance) OVERRIDING SYSTEM VALUE
			SELECT id, distance FROM fresh
			RETURNING id, created_at, distance
		), booked AS MATERIALIZED ( -- not what a trigger has left out
			SELECT n, key, fingerprint, headers, ride.* FROM ride JOIN fresh ON fresh.id = ride.id
		), record AS (
			INSERT INTO unilog.staged_records (action, object, key, data, headers)
			SELECT '` + recordAction + `', '` + recordObject + `', id::text, jsonb_build_object('id', id, 'distance', distance), headers::jsonb
			FROM booked
			ORDER BY booked.id -- a bare id would be the text above
		), kept AS (
			INSERT INTO idempotency_keys (slot, key, fingerprint, ride_id, created_at, distance)
			SELECT today, key, fingerprint, id, created_at, distance
			FROM booked CROSS JOIN once
			WHERE key IS NOT NULL
		)
		SELECT n, id, created_at
		FROM booked`

	// selectKeysSQL finds the answers to requests that were left out.
	// Index: idempotency_keys_0_pkey and so on, given noSeqScanSQL.
	selectKeysSQL = `
		SELECT key, fingerprint, ride_id, created_at, distance::text
		FROM idempotency_keys
		WHERE slot IN (0, 1, 2) AND key = ANY ($1)`
)

// confirmSQL makes the commit wait until a synchronous standby, if there is one, has all that
// could be seen before.
const confirmSQL = `SELECT pg_logical_emit_message(true, 'rides', '') WHERE current_setting('synchronous_standby_names') <> ''`

// order is a ride that is asked for, with a claim if it may come again.
type order struct {
	distance Distance
	claim    *claim
	headers  *string // of its record, as JSON; nil for none
}

// verdict is what became of a request: a ride, new or booked when the request
// came first, or why there is none.
type verdict struct {
	ride   Ride
	booked bool // it is new
	err    error
}

// createOnce is [CreateRides] for orders of which some have claims or headers. The
// verdicts are in the orders' order.
func createOnce(ctx context.Context, db *pgx.Conn, schema unilog.Schema, orders []order) ([]verdict, error) {
	var (
		distances    = make([]string, len(orders))
		locks        = make([]*int64, len(orders))
		keys         = make([]pgtype.UUID, len(orders)) // has a type in every mode of pgx
		fingerprints = make([]pgtype.UUID, len(orders))
		headers      = make([]*string, len(orders))
		verdicts     = make([]verdict, len(orders))
	)
	for i, o := range orders {
		distances[i], headers[i] = o.distance.String(), o.headers
		if o.claim != nil {
			lock := o.claim.key.lock()
			locks[i] = &lock
			keys[i] = pgtype.UUID{Bytes: o.claim.key, Valid: true}
			fingerprints[i] = pgtype.UUID{Bytes: o.claim.fingerprint, Valid: true}
		}
	}
	// Not yet sent, so its outcome is known.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create rides: %w", err)
	}
	batch := &pgx.Batch{}
	batch.Queue(readCommittedSQL)
	batch.Queue(noSeqScanSQL)
	batch.Queue(lockKeysSQL, locks)
	booked := 0
	batch.Queue(schema.SQL(insertOnceSQL), distances, keys, fingerprints, headers).Query(func(rows pgx.Rows) error {
		var n int
		var ride Ride
		_, err := pgx.ForEachRow(rows, []any{&n, &ride.ID, &ride.CreatedAt}, func() error {
			booked++
			ride.Distance, ride.CreatedAt = orders[n-1].distance, ride.CreatedAt.UTC()
			verdicts[n-1] = verdict{ride: ride, booked: true}
			return nil
		})
		return err
	})
	err := db.SendBatch(ctx, batch).Close()
	switch {
	case err == nil && booked < len(orders):
		answerAgain(ctx, db, orders, verdicts)
		return verdicts, nil
	case err == nil:
		return verdicts, nil
	case rolledBack(err, booked == 0):
		return nil, fmt.Errorf("create rides: %w", err)
	}
	return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// answerAgain gives verdicts on the orders that were not booked: what they were
// answered when they came first, if that is committed.
func answerAgain(ctx context.Context, db *pgx.Conn, orders []order, verdicts []verdict) {
	left := map[keyHash]int{}
	var keys []pgtype.UUID
	for i, o := range orders {
		switch {
		case verdicts[i].booked:
		case o.claim == nil: // a trigger of somebody's
			verdicts[i].err = errors.New("the database made no ride and no error")
		default:
			left[o.claim.key], verdicts[i].err = i, errInFlight
			keys = append(keys, pgtype.UUID{Bytes: o.claim.key, Valid: true})
		}
	}
	batch := &pgx.Batch{}
	batch.Queue(noSeqScanSQL)
	batch.Queue(selectKeysSQL, keys).Query(func(rows pgx.Rows) error {
		var key keyHash
		var fingerprint [16]byte
		var ride Ride
		_, err := pgx.ForEachRow(rows, []any{&key, &fingerprint, &ride.ID, &ride.CreatedAt, &ride.Distance.plain}, func() error {
			i := left[key]
			ride.CreatedAt = ride.CreatedAt.UTC()
			verdicts[i] = verdict{ride: ride}
			if fingerprint != orders[i].claim.fingerprint {
				verdicts[i] = verdict{err: errKeyReused}
			}
			return nil
		})
		return err
	})
	batch.Queue(confirmSQL)
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		for _, i := range left {
			verdicts[i] = verdict{err: fmt.Errorf("look up what was booked before: %w", err)}
		}
	}
}

const (
	// keySlotPause is the time between looks whether keys have expired.
	keySlotPause = 10 * time.Minute
	// keySlotTimeout bounds one.
	keySlotTimeout = 5 * time.Second

	// Reads the first row there is. Its age is asked for because a clock may go back
	// over midnight, as with a standby that is promoted: today's slot would be taken
	// for the old one.
	oldKeysSQL = `
		SELECT old.slot, coalesce((
			SELECT created_at < now() - interval '1 day' FROM idempotency_keys AS k WHERE k.slot = old.slot LIMIT 1
		), false)
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
