-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

-- No staged record has an id up to this any more, and none ever will.
ALTER TABLE log_partitions ADD COLUMN low_water bigint NOT NULL DEFAULT 0;
