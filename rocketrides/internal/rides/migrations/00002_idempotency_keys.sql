-- The answers to bookings that a client may send again. A key is in the slot of
-- its day, counted modulo three: today's and yesterday's are in use, so a key is
-- kept for a day at least, and the third is emptied by TRUNCATE, which leaves
-- nothing to vacuum.
CREATE TABLE idempotency_keys (
    slot        integer NOT NULL,
    caller      text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    ride_id     bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    distance    numeric NOT NULL,
    PRIMARY KEY (slot, caller, key)
) PARTITION BY LIST (slot);
CREATE TABLE idempotency_keys_0 PARTITION OF idempotency_keys FOR VALUES IN (0);
CREATE TABLE idempotency_keys_1 PARTITION OF idempotency_keys FOR VALUES IN (1);
CREATE TABLE idempotency_keys_2 PARTITION OF idempotency_keys FOR VALUES IN (2);
