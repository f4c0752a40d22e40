-- Where the log is. The last one counts; without a URL, it is where each process
-- was told to look when it was started. A generation is never used again, so that
-- positions in one log are not taken for those in another.
CREATE TABLE log_places (
    generation integer PRIMARY KEY CHECK (generation >= 0),
    url        text,
    since      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- False as long as the log may be moved back.
    final      boolean NOT NULL DEFAULT true
);
INSERT INTO log_places (generation) VALUES (0);
