-- +goose Up

-- The log that a deliverer reads, whose effects lie outside of this database.
-- Others have none: their state is here, so an audit asks for it.
ALTER TABLE checkpoints ADD COLUMN log_id text;
