-- +goose Up

-- The processes of a consumer that run, and which of them reads what. Leases only
-- share the work out: what is applied once the checkpoints decide.
CREATE TABLE consumer_members (
    name    text NOT NULL,
    member  uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, member)
) WITH (fillfactor = 20);

CREATE TABLE consumer_leases (
    name      text NOT NULL,
    partition integer NOT NULL,
    member    uuid NOT NULL,
    until     timestamptz NOT NULL,
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);
