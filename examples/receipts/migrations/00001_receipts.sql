CREATE TABLE receipts (
    ride_id   bigint PRIMARY KEY,
    distance  numeric NOT NULL,
    cents     numeric NOT NULL,
    -- The record that told of the ride; null if a snapshot did.
    partition integer,
    "offset"  bigint,
    issued_at timestamptz NOT NULL DEFAULT now()
);
