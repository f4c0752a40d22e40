-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

ALTER TABLE checkpoints
    -- Which log the offset is one of, as the log itself says; null until it has.
    ADD COLUMN log_id text,
    -- The consumer's effects lie outside of this database, so that no audit asks for
    -- its state.
    ADD COLUMN outside boolean NOT NULL DEFAULT false;
