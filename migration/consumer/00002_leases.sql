-- The processes of a consumer that run, and which of them reads what. Leases only
-- share the work out: what is applied once the checkpoints decide. A lease lasts
-- as long as its member is seen, so that a row is written to renew all of them.
CREATE TABLE consumer_members (
    name      text NOT NULL,
    member    text NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, member)
) WITH (fillfactor = 20);

CREATE TABLE consumer_leases (
    name      text NOT NULL,
    partition integer NOT NULL,
    member    text NOT NULL,
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);
