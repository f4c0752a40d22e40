-- What persons do to consumers and deliverers while they run.

-- Behind a long transaction this gives up rather than let consumers wait behind it.
SET LOCAL lock_timeout = '2s';

ALTER TABLE unilog.checkpoints
    -- Nothing is applied meanwhile. Null: it is not paused.
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_by text,
    -- The offset after which the consumer began. What is before it, it has never applied,
    -- and no audit knows what its state would be with it.
    ADD COLUMN began     bigint NOT NULL DEFAULT 0;

ALTER TABLE unilog.dead_letters
    -- The consumer that runs is to apply it; null again if it rejects it again.
    ADD COLUMN requeued_at timestamptz;

-- The audit trail, and how processes notice: they look for the last id of their name. Ids
-- of a name rise in the order of the commits, since a lock is held for them.
CREATE TABLE unilog.interventions (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    who         text NOT NULL DEFAULT session_user || CASE WHEN current_user <> session_user THEN ' as ' || current_user ELSE '' END,
    what        text NOT NULL,
    consumer    text NOT NULL,
    -- Null if it is about all partitions.
    partition   integer,
    from_offset bigint,
    to_offset   bigint,
    reason      text NOT NULL DEFAULT ''
);

CREATE INDEX interventions_of_consumer ON unilog.interventions (consumer, id);
