-- The group roles of {{.Service}}: what each process needs, and nothing else. To
-- run it again brings them up to date. The owner of the database can run it who
-- has CREATEROLE and may grant pg_read_all_stats, or a superuser.

BEGIN;

DO $$
DECLARE
    name text;
    roles constant text := '{{.All}}';
BEGIN
    PERFORM pg_advisory_xact_lock(1970040681, 0); -- one at a time
    -- Not at the price of everyone who queues up behind a long read: try again.
    SET LOCAL lock_timeout = '2s';

    FOREACH name IN ARRAY string_to_array(roles, ', ') LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
{{- if .Log}}
    -- Who is no superuser can give tables only to a role that he is in.
    IF NOT pg_has_role('{{.Streamer}}', 'USAGE') THEN
        GRANT {{.Streamer}} TO CURRENT_USER;
    END IF;
{{- end}}
    -- Who leads, since when, and who is in an old transaction.
    FOREACH name IN ARRAY ARRAY['{{.Reader}}'{{if .Log}}, '{{.Streamer}}'{{end}}] LOOP
        IF NOT pg_has_role(name, 'pg_read_all_stats', 'USAGE') THEN
            EXECUTE format('GRANT pg_read_all_stats TO %I', name);
        END IF;
    END LOOP;

    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), roles);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), roles);
    -- Everyone could make tables there before Postgres 15.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %s', current_schema(), roles);
{{- if .Log}}

    -- The archive's chunks are made and dropped by their owner alone.
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO {{.Streamer}}', current_schema());
    FOR name IN
        SELECT oid::regclass FROM pg_class
        WHERE relowner <> '{{.Streamer}}'::regrole AND (oid = 'log_records'::regclass
            OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'log_records'::regclass))
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO {{.Streamer}}', name);
    END LOOP;
{{- end}}

    -- What an older version has granted, or a hand.
    EXECUTE format('REVOKE ALL ON unilog_migrations FROM %s', roles);
{{- if .Log}}
    EXECUTE format('REVOKE ALL ON staged_log_records, log_partitions, log_places FROM %s', roles);
    EXECUTE format('REVOKE ALL ON SEQUENCE staged_log_records_id_seq FROM %s', roles);
    REVOKE ALL ON log_records FROM {{.Writer}}, {{.Consumer}}, {{.Reader}};
{{- end}}
{{- if .Consumers}}
    EXECUTE format('REVOKE ALL ON checkpoints, consumer_members, consumer_leases, dead_letters FROM %s', roles);
{{- end}}

    -- Every process looks at its start whether the tables are its program's.
    EXECUTE format('GRANT SELECT ON unilog_migrations TO %s', roles);
END
$$;

{{- if .Log}}

-- By column, so that no writer can give a record an id that was passed already.
GRANT INSERT (action, object, key, data, headers) ON staged_log_records TO {{.Writer}};
-- To count what waits to be published, and nothing of what it says.
GRANT SELECT (id) ON staged_log_records TO {{.Writer}};
GRANT SELECT (partition, next_offset, published_offset, low_water) ON log_partitions TO {{.Writer}};

GRANT SELECT, DELETE ON staged_log_records TO {{.Streamer}};
-- To look at the last id, not to draw one.
GRANT SELECT ON SEQUENCE staged_log_records_id_seq TO {{.Streamer}};
GRANT SELECT, UPDATE (next_offset, published_offset, epoch, trouble, troubled_at, low_water) ON log_partitions
    TO {{.Streamer}};
GRANT SELECT ON log_places TO {{.Streamer}};

GRANT SELECT ON log_partitions, log_records, log_places TO {{.Consumer}};
GRANT SELECT ON staged_log_records, log_partitions, log_places, log_records TO {{.Reader}};
{{- end}}
{{- if .Consumers}}

GRANT SELECT, INSERT, UPDATE ON checkpoints TO {{.Consumer}};
GRANT SELECT, INSERT, UPDATE, DELETE ON consumer_members, consumer_leases TO {{.Consumer}};
-- To park a record, not to discard it.
GRANT SELECT, INSERT, UPDATE (error, parked_at) ON dead_letters TO {{.Consumer}};
GRANT SELECT ON checkpoints, consumer_members, consumer_leases, dead_letters TO {{.Reader}};
{{- end}}
{{- if and .Log .Consumers}}

GRANT SELECT ON checkpoints TO {{.Streamer}};
-- To count them for its metrics.
GRANT SELECT (consumer, partition, discarded_at) ON dead_letters TO {{.Streamer}};
{{- end}}
{{- if .Own}}

{{.Own}}
{{- end}}

COMMIT;
