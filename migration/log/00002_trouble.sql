-- +goose Up

-- Why the streamer cannot publish, and since when, for others to see; null when
-- its last attempt went well.
ALTER TABLE log_partitions ADD COLUMN trouble text, ADD COLUMN troubled_at timestamptz;
