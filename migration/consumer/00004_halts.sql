-- Why consumers and deliverers do not go on, for who is not at their processes.

-- Behind a long transaction this gives up rather than let consumers wait behind it.
SET LOCAL lock_timeout = '2s';

ALTER TABLE unilog.checkpoints
    -- Why it has halted here, until a person decides, and since when; null when it has not.
    ADD COLUMN trouble     text,
    ADD COLUMN troubled_at timestamptz,
    -- The offset of the record that was rejected; null if no record is to blame.
    ADD COLUMN rejected    bigint;
