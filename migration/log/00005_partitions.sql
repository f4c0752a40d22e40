-- Not at the price of everyone who queues up behind a long read: try again.
SET LOCAL lock_timeout = '2s';

-- A partition that is not active gets no more records. It is read all the same:
-- what it has belongs to the history.
ALTER TABLE log_partitions ADD COLUMN active boolean NOT NULL DEFAULT true;

-- What marks a change of their number in the log nobody else may write. Not looked
-- for in what is there: it is the leader that scans this table.
ALTER TABLE staged_log_records ADD CONSTRAINT staged_log_records_object_not_reserved CHECK (object <> 'unilog') NOT VALID;
