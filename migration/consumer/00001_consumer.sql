-- What the database of a consumer needs, be it the writers' own or another.

-- The last offset that a consumer has applied, saved with what it made of it.
CREATE TABLE checkpoints (
    name       text NOT NULL,
    partition  integer NOT NULL,
    "offset"   bigint NOT NULL DEFAULT 0,
    position   text NOT NULL DEFAULT '',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);

-- Records that a consumer's handler rejected and that it was told to pass over.
CREATE TABLE dead_letters (
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
