-- Which records were redacted: what they held is gone, and their offsets stay.
CREATE TABLE unilog.redactions (
    partition   integer NOT NULL,
    "offset"    bigint NOT NULL,
    redacted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    redacted_by text NOT NULL DEFAULT session_user,
    reason      text NOT NULL,
    -- The consumers of this database that had not applied the record by then, or had
    -- parked it: they never got what it held.
    unapplied   text[] NOT NULL DEFAULT '{}',
    -- When the log was seen to have it no more. Null: it may have it still.
    cleared_at  timestamptz,
    PRIMARY KEY (partition, "offset")
);
