-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

-- Why the streamer cannot publish, and since when, for others to see; null when
-- its last attempt went well.
ALTER TABLE log_partitions ADD COLUMN trouble text, ADD COLUMN troubled_at timestamptz;
