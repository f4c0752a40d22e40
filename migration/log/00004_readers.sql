-- How far readers have come that keep their checkpoints elsewhere, as they report
-- themselves: into this table, with Postgres alone, or into the log, from which streamers
-- copy it if they are to keep records for them.
CREATE TABLE unilog.readers (
    name        text NOT NULL,
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The time of the report that was copied, by its reader's clock, in milliseconds since
    -- 1970: by it a new report is told from one that was copied already.
    copied      bigint,
    PRIMARY KEY (name, partition)
) WITH (fillfactor = 20);
