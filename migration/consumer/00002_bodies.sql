-- A record that was put aside may have a body with its content type in the place of data.
-- Nothing here reads the table.
SET LOCAL lock_timeout = '2s';

ALTER TABLE unilog.dead_letters
    ALTER COLUMN data DROP NOT NULL,
    ADD COLUMN body bytea,
    ADD COLUMN content_type text,
    ADD CONSTRAINT dead_letters_data_or_body CHECK ((data IS NULL) = (body IS NOT NULL) AND (body IS NULL) = (content_type IS NULL)) NOT VALID;
