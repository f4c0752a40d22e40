-- The format of the archive, and of the log with Postgres alone: unilog.LogFormat. Whoever
-- reads it or numbers looks first, and refuses another one than its own. A file that
-- changes it ends the terms of the streamers that run, by SET epoch = epoch + 1.
SET LOCAL lock_timeout = '2s';

ALTER TABLE unilog.log ADD COLUMN format integer NOT NULL DEFAULT 1;
