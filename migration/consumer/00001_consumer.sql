-- What the database of a consumer needs, be it the writers' own or another.

-- The last offset that a consumer has applied, saved with what it made of it.
CREATE TABLE unilog.checkpoints (
    name       text NOT NULL,
    partition  integer NOT NULL,
    "offset"   bigint NOT NULL DEFAULT 0,
    position   text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Which log the offset is one of, as the log itself says; null until it has.
    log_id     text,
    -- The consumer's effects lie outside of this database, so that no audit asks for
    -- its state.
    outside    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);

-- The processes of a consumer that run, and which of them reads what. Leases only
-- share the work out: what is applied once the checkpoints decide. A lease lasts
-- as long as its member is seen, so that a row is written to renew all of them.
CREATE TABLE unilog.members (
    name      text NOT NULL,
    member    text NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, member)
) WITH (fillfactor = 20);

CREATE TABLE unilog.leases (
    name      text NOT NULL,
    partition integer NOT NULL,
    member    text NOT NULL,
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);

-- Records that a consumer's handler rejected and that it was told to pass over.
CREATE TABLE unilog.dead_letters (
    consumer  text NOT NULL,
    partition integer NOT NULL,
    "offset"  bigint NOT NULL,
    staged_at timestamptz NOT NULL,
    action    text NOT NULL,
    object    text NOT NULL,
    key       text NOT NULL,
    data      jsonb NOT NULL,
    headers   jsonb NOT NULL,
    error     text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- A discarded record is kept, so that the audit knows why the total lacks it.
    discarded_at timestamptz,
    PRIMARY KEY (consumer, partition, "offset")
);
