-- The group roles of Rocket Rides: what each process needs, and nothing else. To
-- run it again brings them up to date. The owner of the database can run it who
-- has CREATEROLE and may grant pg_read_all_stats, or a superuser.

BEGIN;

DO $$
DECLARE
    name text;
    roles constant text := 'rocketrides_api, rocketrides_streamer, rocketrides_consumer, rocketrides_reader';
BEGIN
    PERFORM pg_advisory_xact_lock(1970040681, 0); -- one at a time
    -- Not at the price of everyone who queues up behind a long read: try again.
    SET LOCAL lock_timeout = '2s';

    FOREACH name IN ARRAY string_to_array(roles, ', ') LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
    -- Who is no superuser can give tables only to a role that he is in.
    IF NOT pg_has_role('rocketrides_streamer', 'USAGE') THEN
        GRANT rocketrides_streamer TO CURRENT_USER;
    END IF;
    -- Who leads, since when, and who is in an old transaction.
    FOREACH name IN ARRAY ARRAY['rocketrides_reader', 'rocketrides_streamer'] LOOP
        IF NOT pg_has_role(name, 'pg_read_all_stats', 'USAGE') THEN
            EXECUTE format('GRANT pg_read_all_stats TO %I', name);
        END IF;
    END LOOP;

    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), roles);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), roles);
    -- Everyone could make tables there before Postgres 15.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %s', current_schema(), roles);

    -- The archive's chunks are made and dropped by their owner alone.
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO rocketrides_streamer', current_schema());
    FOR name IN
        SELECT oid::regclass FROM pg_class
        WHERE relowner <> 'rocketrides_streamer'::regrole AND (oid = 'log_records'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'log_records'::regclass))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO rocketrides_streamer', name);
    END LOOP;

    -- What an older version has granted, or a hand.
    EXECUTE format('REVOKE ALL ON rides, idempotency_keys, idempotency_keys_0, idempotency_keys_1, idempotency_keys_2,
        staged_log_records, log_partitions, log_places, checkpoints, consumer_members, consumer_leases, dead_letters, consumer_states, unilog_migrations FROM %s', roles);
    EXECUTE format('REVOKE ALL ON SEQUENCE rides_id_seq, staged_log_records_id_seq FROM %s', roles);
    REVOKE ALL ON log_records FROM rocketrides_api, rocketrides_consumer, rocketrides_reader;

    -- Every process looks at its start whether the tables are its program's.
    EXECUTE format('GRANT SELECT ON unilog_migrations TO %s', roles);
END
$$;

GRANT SELECT, INSERT (id, distance) ON rides TO rocketrides_api; -- it takes ids before it makes rides
GRANT USAGE ON SEQUENCE rides_id_seq TO rocketrides_api;
GRANT SELECT, INSERT ON idempotency_keys TO rocketrides_api;
GRANT TRUNCATE ON idempotency_keys_0, idempotency_keys_1, idempotency_keys_2 TO rocketrides_api; -- when they are old
-- By column, so that no writer can give a record an id that was passed already.
GRANT INSERT (action, object, key, data, headers) ON staged_log_records TO rocketrides_api;
-- To count what waits to be published, and nothing of what it says.
GRANT SELECT (id) ON staged_log_records TO rocketrides_api;
GRANT SELECT (partition, next_offset, published_offset, low_water) ON log_partitions TO rocketrides_api;

GRANT SELECT, DELETE ON staged_log_records TO rocketrides_streamer;
-- To look at the last id, not to draw one.
GRANT SELECT ON SEQUENCE staged_log_records_id_seq TO rocketrides_streamer;
GRANT SELECT, UPDATE (next_offset, published_offset, epoch, trouble, troubled_at, low_water) ON log_partitions
    TO rocketrides_streamer;
GRANT SELECT ON checkpoints, log_places TO rocketrides_streamer;
-- To count them for its metrics.
GRANT SELECT (consumer, partition, discarded_at) ON dead_letters TO rocketrides_streamer;

GRANT SELECT ON log_partitions, log_records, log_places TO rocketrides_consumer;
GRANT SELECT, INSERT, UPDATE ON checkpoints, consumer_states TO rocketrides_consumer;
GRANT SELECT, INSERT, UPDATE, DELETE ON consumer_members, consumer_leases TO rocketrides_consumer;
-- To park a record, not to discard it.
GRANT SELECT, INSERT, UPDATE (error, parked_at) ON dead_letters TO rocketrides_consumer;

GRANT SELECT ON rides, staged_log_records, log_partitions, log_places, log_records, checkpoints, consumer_members, consumer_leases, dead_letters, consumer_states
    TO rocketrides_reader;

COMMIT;
