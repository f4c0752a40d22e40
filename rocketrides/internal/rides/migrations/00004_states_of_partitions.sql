-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

-- One part of the total for each partition, so that processes that share the
-- partitions of a consumer do not wait for each other.
ALTER TABLE consumer_states
    ADD COLUMN partition integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT consumer_states_pkey,
    ADD PRIMARY KEY (name, partition);
