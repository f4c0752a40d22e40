-- The group roles of {{.Service}}: what each process needs, and nothing else. To
-- run it again brings them up to date. The owner of the database can run it who
-- has CREATEROLE, or a superuser. Where pg_read_all_stats and pg_monitor are not his to
-- grant, roles go without, and know less of others' sessions.

BEGIN;
SET LOCAL statement_timeout = 0;

DO $$
DECLARE
    name text;
    stats text;
    roles constant text := '{{.All}}';
BEGIN
    PERFORM pg_advisory_xact_lock(1970040681, 0); -- one at a time
    -- Not at the price of everyone who queues up behind a long read: try again.
    SET LOCAL lock_timeout = '2s';
    PERFORM set_config(s.name, '0', true) FROM pg_settings AS s WHERE s.name = 'transaction_timeout'; -- since Postgres 17

    FOREACH name IN ARRAY string_to_array(roles, ', ') LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
    -- Who leads, since when, and who is in an old transaction.
    FOREACH name IN ARRAY ARRAY['{{.Reader}}'{{if .Log}}, '{{.Streamer}}'{{end}}] LOOP
        FOREACH stats IN ARRAY ARRAY['pg_read_all_stats', 'pg_monitor'] LOOP
            EXIT WHEN pg_has_role(name, 'pg_read_all_stats', 'USAGE');
            BEGIN
                EXECUTE format('GRANT %I TO %I', stats, name);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE WARNING 'could not grant % to %', stats, name;
            END;
        END LOOP;
    END LOOP;

    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), roles);
    -- Nobody makes or drops anything at run time.
    EXECUTE format('REVOKE ALL ON SCHEMA {{.Schema}} FROM PUBLIC, %s', roles);
    EXECUTE format('GRANT USAGE ON SCHEMA {{.Schema}} TO %s', roles);
{{- if .Own}}
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %s', current_schema(), roles);
    -- Everyone could make tables there before Postgres 15.
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %s', current_schema(), roles);
{{- end}}

    -- What an older version has granted, or a hand.
    EXECUTE format('REVOKE ALL ON unilog.migrations FROM %s', roles);
{{- if .Log}}
    EXECUTE format('REVOKE ALL ON unilog.staged_records, unilog.log, unilog.partitions, unilog.batches, unilog.records, '
        'unilog.places, unilog.redactions, unilog.readers FROM %s', roles);
    EXECUTE format('REVOKE ALL ON SEQUENCE unilog.staged_records_id_seq FROM %s', roles);
    EXECUTE format('REVOKE ALL ON FUNCTION unilog.records_between, unilog.wake_streamer FROM PUBLIC, %s', roles);
{{- end}}
{{- if .Consumers}}
    EXECUTE format('REVOKE ALL ON unilog.checkpoints, unilog.members, unilog.leases, unilog.dead_letters, unilog.interventions FROM %s', roles);
{{- end}}

    -- Every process looks at its start whether the tables are its program's.
    EXECUTE format('GRANT SELECT ON unilog.migrations TO %s', roles);
END
$$;

{{- if .Log}}

-- By column, so that no writer can give a record an id that was passed already. The
-- function of the trigger needs no right.
GRANT INSERT (action, object, key, data, headers, body, content_type) ON unilog.staged_records TO {{.Writer}};
-- To count what waits to be published, and nothing of what it says.
GRANT SELECT (id) ON unilog.staged_records TO {{.Writer}};
GRANT SELECT (partition, next_offset, published_offset) ON unilog.partitions TO {{.Writer}};
GRANT SELECT (low_water) ON unilog.log TO {{.Writer}};

GRANT SELECT, DELETE ON unilog.staged_records TO {{.Streamer}};
-- To look at the last id, not to draw one.
GRANT SELECT ON SEQUENCE unilog.staged_records_id_seq TO {{.Streamer}};
GRANT SELECT, UPDATE (epoch, low_water) ON unilog.log TO {{.Streamer}};
GRANT SELECT, UPDATE (next_offset, published_offset, epoch, compared, trouble, troubled_at) ON unilog.partitions TO {{.Streamer}};
GRANT SELECT, INSERT, DELETE ON unilog.batches TO {{.Streamer}};
GRANT SELECT ON unilog.places TO {{.Streamer}};
GRANT SELECT, INSERT, UPDATE ON unilog.readers TO {{.Streamer}}, {{.Consumer}};

GRANT SELECT ON unilog.log, unilog.partitions, unilog.batches, unilog.records, unilog.places TO {{.Consumer}}, {{.Reader}};
-- To redact is for the owner.
GRANT SELECT ON unilog.redactions TO {{.Reader}};
GRANT EXECUTE ON FUNCTION unilog.records_between TO {{.Consumer}}, {{.Reader}};
GRANT SELECT ON unilog.staged_records, unilog.readers TO {{.Reader}};
{{- end}}
{{- if .Consumers}}

GRANT SELECT, INSERT, UPDATE ON unilog.checkpoints TO {{.Consumer}};
GRANT SELECT, INSERT, UPDATE, DELETE ON unilog.members, unilog.leases TO {{.Consumer}};
-- To park a record, not to discard it; and to remove one that is applied after all.
GRANT SELECT, INSERT, UPDATE (error, parked_at, requeued_at), DELETE ON unilog.dead_letters TO {{.Consumer}};
GRANT SELECT ON unilog.interventions TO {{.Consumer}};
GRANT SELECT ON unilog.checkpoints, unilog.members, unilog.leases, unilog.dead_letters, unilog.interventions TO {{.Reader}};
{{- end}}
{{- if and .Log .Consumers}}

GRANT SELECT ON unilog.checkpoints TO {{.Streamer}};
-- To count them for its metrics.
GRANT SELECT (consumer, partition, discarded_at) ON unilog.dead_letters TO {{.Streamer}};
{{- end}}
{{- if .Own}}

{{.Own}}
{{- end}}

COMMIT;
