-- What the database that writers write to needs: the staging table, the log of
-- record and its heads.

-- Writers insert here, in their own transactions; the streamer moves rows on.
CREATE TABLE unilog.staged_records (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    staged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    action    text NOT NULL,
    object    text NOT NULL,
    key       text NOT NULL DEFAULT '',
    data      jsonb NOT NULL,
    -- Null is as good as {}, and cheaper.
    headers   jsonb,
    -- The object unilog is that of the entries which the log itself makes. Two checks,
    -- not six: Postgres prepares each one anew for each statement.
    CONSTRAINT staged_records_action_and_object_not_empty_nor_unilog
        CHECK (action <> '' AND object <> '' AND object <> 'unilog'),
    -- unilog.MaxStoredBytes: twice the limit of unilog.Stage, since jsonb is written with
    -- more white space than it was given. It keeps a record that no log carries out of
    -- the log, where it would halt everything behind it. The text is only made where it
    -- may be too long: what takes fewer bytes as jsonb, and is not compressed, has room
    -- for 13 numbers of the longest kind, which are written with 147,456 digits each.
    CONSTRAINT staged_records_size_at_most_2_mib_and_headers_an_object CHECK (
        CASE WHEN headers IS NULL AND pg_column_size(data) < 224 AND pg_column_compression(data) IS NULL
                AND octet_length(action) + octet_length(object) + octet_length(key) < 100000 THEN 0
            ELSE octet_length(action) + octet_length(object) + octet_length(key) + octet_length(data::text)
                + CASE WHEN jsonb_typeof(headers) <> 'object' THEN 2097152 ELSE coalesce(octet_length(headers::text), 0) END
        END <= 2097152
    )
) WITH (
    -- Every row is deleted soon after it was inserted: vacuum by count, at once.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 0
);

CREATE FUNCTION unilog.wake_streamer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('unilog:staged', '');
    RETURN NULL;
END
$$;

-- A writer takes the shared lock until the end of its transaction. The streamer that
-- numbers sleeps only with the exclusive one: then no writer is at work unnoticed, and
-- the next one finds the lock taken and notifies. While the streamer is awake nobody
-- notifies, since notifications are committed one by one, for the whole server. Being
-- a condition, the lock costs a writer a quarter of what a function would.
CREATE TRIGGER staged_records_wake AFTER INSERT ON unilog.staged_records
    FOR EACH STATEMENT WHEN (NOT pg_try_advisory_xact_lock_shared('unilog.staged_records'::regclass::oid::integer, 0))
    EXECUTE FUNCTION unilog.wake_streamer();

-- What is true of the whole log: one row.
CREATE TABLE unilog.log (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    -- It names the log across restarts and restores, so that two databases do not share
    -- one stream. A copy of a database has that of the original.
    log_id     uuid NOT NULL DEFAULT gen_random_uuid(),
    -- How many partitions get records: the first ones. Those after them are read all the
    -- same: what they have belongs to the history.
    partitions integer NOT NULL DEFAULT 1 CHECK (partitions > 0),
    -- The term of the streamer that numbers.
    epoch      bigint NOT NULL DEFAULT 0,
    -- No staged record has an id up to this any more, and none ever will.
    low_water  bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

INSERT INTO unilog.log DEFAULT VALUES;

-- The heads of the log's partitions.
CREATE TABLE unilog.partitions (
    partition        integer PRIMARY KEY CHECK (partition >= 0),
    next_offset      bigint NOT NULL DEFAULT 1,
    published_offset bigint NOT NULL DEFAULT 0,
    -- The term of the streamer that leads it.
    epoch            bigint NOT NULL DEFAULT 0,
    -- The term of the streamer that numbers for which this one's has been compared with
    -- the log: the head of the log is then not beyond that of the partition. No offset is
    -- given without it.
    compared         bigint NOT NULL DEFAULT -1,
    -- Why the streamer cannot publish, and since when; null when its last attempt went
    -- well.
    trouble          text,
    troubled_at      timestamptz,
    CONSTRAINT partitions_published_were_numbered CHECK (published_offset < next_offset)
) WITH (fillfactor = 10);

INSERT INTO unilog.partitions (partition) VALUES (0);

-- The archive: the log of record. A row is what one step of numbering gave to one
-- partition; small neighbours are merged later. Each array has an element for each
-- record, in the order of their offsets. Data and headers are JSON, with every digit
-- as it was staged.
CREATE TABLE unilog.batches (
    partition    integer NOT NULL,
    first_offset bigint NOT NULL,
    last_offset  bigint NOT NULL,
    bytes        integer NOT NULL,
    numbered_at  timestamptz NOT NULL DEFAULT now(),
    staged_at    timestamptz[] NOT NULL,
    action       text[] NOT NULL,
    object       text[] NOT NULL,
    key          text[] NOT NULL,
    data         text[] NOT NULL,
    headers      text[] NOT NULL,
    -- The first row whose last offset is beyond a place has what follows the place.
    PRIMARY KEY (partition, last_offset),
    CONSTRAINT batches_hold_their_offsets CHECK (cardinality(data) = last_offset - first_offset + 1)
) WITH (
    -- Rows are large: a page has few of them.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 5000,
    toast.autovacuum_vacuum_cost_delay = 0
);

-- lz4 takes a third of the processor that pglz takes. Not every server has it.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['staged_at', 'action', 'object', 'key', 'data', 'headers'] LOOP
        EXECUTE format('ALTER TABLE unilog.batches ALTER COLUMN %I SET COMPRESSION lz4', name);
    END LOOP;
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
    NULL;
END
$$;

-- The archive, record by record. A query for some offsets is quicker by the function
-- below.
CREATE VIEW unilog.records AS
SELECT b.partition, b.first_offset + r.n - 1 AS "offset", b.numbered_at, r.staged_at,
    r.action, r.object, r.key, r.data::jsonb AS data, r.headers::jsonb AS headers
FROM unilog.batches AS b
CROSS JOIN LATERAL unnest(b.staged_at, b.action, b.object, b.key, b.data, b.headers)
    WITH ORDINALITY AS r (staged_at, action, object, key, data, headers, n);

-- The records of a partition after one offset, up to another, in order.
-- Index: batches_pkey.
CREATE FUNCTION unilog.records_between(partition integer, after bigint, up_to bigint) RETURNS SETOF unilog.records
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1000 AS $$
    SELECT b.partition, b.first_offset + r.n - 1, b.numbered_at, r.staged_at,
        r.action, r.object, r.key, r.data::jsonb, r.headers::jsonb
    FROM unilog.batches AS b
    CROSS JOIN LATERAL unnest(b.staged_at, b.action, b.object, b.key, b.data, b.headers)
        WITH ORDINALITY AS r (staged_at, action, object, key, data, headers, n)
    WHERE b.partition = $1 AND b.last_offset > $2 AND b.first_offset <= $3
        AND b.first_offset + r.n - 1 > $2 AND b.first_offset + r.n - 1 <= $3
    ORDER BY b.last_offset, r.n
$$;

-- Where the log is. The last one counts; without a URL, it is where each process
-- was told to look when it was started. A generation is never used again, so that
-- positions in one log are not taken for those in another.
CREATE TABLE unilog.places (
    generation integer PRIMARY KEY CHECK (generation >= 0),
    url        text,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- False as long as the log may be moved back.
    final      boolean NOT NULL DEFAULT true
);

INSERT INTO unilog.places (generation) VALUES (0);
