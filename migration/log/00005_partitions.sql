-- +goose Up

-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

-- A partition that is not active gets no more records. It is read all the same:
-- what it has belongs to the history.
ALTER TABLE log_partitions ADD COLUMN active boolean NOT NULL DEFAULT true;
