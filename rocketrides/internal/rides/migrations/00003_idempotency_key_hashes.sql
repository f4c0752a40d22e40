-- A key and its caller as one hash, see HashKey: short, of one length, and compared
-- without a collation. That takes half the time.
LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE;
CREATE TEMPORARY TABLE kept ON COMMIT DROP AS
SELECT slot, encode(substr(sha256(convert_to(caller, 'UTF8') || '\x00'::bytea || convert_to(key, 'UTF8')), 1, 16), 'hex')::uuid AS key,
    encode(fingerprint, 'hex')::uuid AS fingerprint, ride_id, created_at, distance
FROM idempotency_keys;
DROP TABLE idempotency_keys;
CREATE TABLE idempotency_keys (
    slot        integer NOT NULL,
    key         uuid NOT NULL,
    fingerprint uuid NOT NULL,
    ride_id     bigint NOT NULL,
    created_at  timestamptz NOT NULL,
    distance    numeric NOT NULL,
    PRIMARY KEY (slot, key)
) PARTITION BY LIST (slot);
CREATE TABLE idempotency_keys_0 PARTITION OF idempotency_keys FOR VALUES IN (0);
CREATE TABLE idempotency_keys_1 PARTITION OF idempotency_keys FOR VALUES IN (1);
CREATE TABLE idempotency_keys_2 PARTITION OF idempotency_keys FOR VALUES IN (2);
INSERT INTO idempotency_keys SELECT * FROM kept;
