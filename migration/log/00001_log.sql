-- What the database that writers write to needs: the staging table, the log of
-- record and its heads.

-- Writers insert here, in their own transactions; the streamer moves rows on.
-- The size is reckoned at insert, so that a batch can be bounded in bytes
-- without reading the rows it leaves behind.
CREATE TABLE staged_log_records (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    staged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    size      integer NOT NULL GENERATED ALWAYS AS (
        octet_length(action) + octet_length(object) + octet_length(key)
        + octet_length(data::text) + octet_length(headers::text)
    ) STORED,
    action    text NOT NULL,
    object    text NOT NULL,
    key       text NOT NULL DEFAULT '',
    data      jsonb NOT NULL,
    headers   jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT staged_log_records_action_not_empty CHECK (action <> ''),
    CONSTRAINT staged_log_records_object_not_empty CHECK (object <> ''),
    CONSTRAINT staged_log_records_headers_are_members CHECK (jsonb_typeof(headers) = 'object'),
    -- Twice the limit of unilog.Stage, since jsonb is written with more white
    -- space than it was given. It keeps a record that no batch could carry out
    -- of the log, where it would halt everything behind it.
    CONSTRAINT staged_log_records_size_at_most_2_mib CHECK (size <= 2097152)
) WITH (
    -- Every row is deleted soon after it was inserted: vacuum by count, at once.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 0
);

-- The heads of the log's partitions. log_id names the log across restarts and
-- restores, so that two databases do not share one stream. A copy of a database
-- has that of the original.
CREATE TABLE log_partitions (
    partition        integer PRIMARY KEY CHECK (partition >= 0),
    next_offset      bigint NOT NULL DEFAULT 1,
    published_offset bigint NOT NULL DEFAULT 0,
    epoch            bigint NOT NULL DEFAULT 0,
    log_id           uuid NOT NULL DEFAULT gen_random_uuid(),
    CONSTRAINT log_partitions_published_were_numbered CHECK (published_offset < next_offset)
) WITH (fillfactor = 10);

INSERT INTO log_partitions (partition) VALUES (0);

-- The archive: the log of record. The streamer adds its chunks ahead of the
-- head and drops the ones that nobody needs, which leaves nothing to vacuum.
CREATE TABLE log_records (
    "offset"    bigint NOT NULL,
    partition   integer NOT NULL,
    size        integer NOT NULL,
    staged_at   timestamptz NOT NULL,
    numbered_at timestamptz NOT NULL DEFAULT now(),
    action      text NOT NULL,
    object      text NOT NULL,
    key         text NOT NULL,
    data        jsonb NOT NULL,
    headers     jsonb NOT NULL,
    PRIMARY KEY (partition, "offset")
) PARTITION BY RANGE (partition, "offset");
