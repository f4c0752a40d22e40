package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/redislog"
)

// refusedByPostgres has what each role may not do, and others may.
var refusedByPostgres = map[string][]string{
	"api": {
		`DELETE FROM idempotency_keys`,
		`UPDATE idempotency_keys SET ride_id = 1`,
		`TRUNCATE idempotency_keys`,
		`UPDATE rides SET distance = 0`,
		`DELETE FROM rides`,
		`INSERT INTO rides (created_at, distance) VALUES (now(), 1)`,
		`SELECT data FROM unilog.staged_records`,
		`SELECT id FROM unilog.staged_records FOR UPDATE`,
		`DELETE FROM unilog.staged_records`,
		`INSERT INTO unilog.staged_records (id, action, object, data) OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'o', '{}')`,
		`SELECT nextval('unilog.staged_records_id_seq')`,
		`SELECT FROM unilog.records`,
		`SELECT FROM unilog.batches`,
		`SELECT FROM unilog.records_between(0, 0, 1)`,
		`SELECT log_id FROM unilog.log`,
		`UPDATE unilog.log SET low_water = 1`,
		`SELECT partition FROM unilog.partitions FOR UPDATE`,
		`UPDATE unilog.partitions SET epoch = epoch + 1`,
		`SELECT FROM unilog.checkpoints`,
		`SELECT FROM consumer_states`,
		`SELECT FROM unilog.dead_letters`,
	},
	"streamer": {
		`SELECT FROM idempotency_keys`,
		`SELECT FROM rides`,
		`INSERT INTO rides (distance) VALUES (1)`,
		`INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`UPDATE unilog.staged_records SET data = '{}'`,
		`SELECT nextval('unilog.staged_records_id_seq')`,
		`SELECT setval('unilog.staged_records_id_seq', 1)`,
		`UPDATE unilog.log SET log_id = gen_random_uuid()`,
		`UPDATE unilog.log SET partitions = 2`,
		`UPDATE unilog.batches SET data = data`,
		`TRUNCATE unilog.batches`,
		`DROP TABLE unilog.batches`,
		`DELETE FROM unilog.partitions`,
		`UPDATE unilog.checkpoints SET "offset" = 0`,
		`SELECT FROM unilog.checkpoints FOR UPDATE`,
		`SELECT FROM consumer_states`,
		`SELECT data FROM unilog.dead_letters`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'`,
	},
	"consumer": {
		`SELECT FROM idempotency_keys`,
		`SELECT FROM rides`,
		`SELECT FROM unilog.staged_records`,
		`INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`UPDATE unilog.partitions SET epoch = epoch + 1`,
		`SELECT FROM unilog.partitions FOR UPDATE`,
		`UPDATE unilog.log SET low_water = 1`,
		`INSERT INTO unilog.batches SELECT * FROM unilog.batches`,
		`DELETE FROM unilog.batches`,
		`DROP TABLE unilog.batches`,
		`DELETE FROM unilog.checkpoints`,
		`DELETE FROM consumer_states`,
		`INSERT INTO unilog.interventions (what, consumer) VALUES ('seek', 'c')`,
		`UPDATE unilog.dead_letters SET discarded_at = now()`,
	},
	"reader": {
		`SELECT FROM idempotency_keys`,
		`INSERT INTO rides (distance) VALUES (1)`,
		`INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`DELETE FROM unilog.staged_records`,
		`UPDATE unilog.partitions SET epoch = epoch + 1`,
		`UPDATE unilog.log SET low_water = 1`,
		`DELETE FROM unilog.batches`,
		`UPDATE unilog.checkpoints SET "offset" = 0`,
		`SELECT FROM unilog.checkpoints FOR UPDATE`,
		`UPDATE consumer_states SET total_distance = 0`,
		`DELETE FROM unilog.dead_letters`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'`,
	},
}

// refusedByPostgresToAll is what none of the roles may do.
var refusedByPostgresToAll = []string{
	`INSERT INTO unilog.migrations (set_name, version, name) VALUES ('rides', 99999, 'newer')`,
	`DROP TABLE rides`,
	`TRUNCATE unilog.staged_records`,
	`ALTER TABLE unilog.staged_records DISABLE TRIGGER ALL`,
	`CREATE TABLE another ()`,
	`CREATE TABLE unilog.another ()`,
	`DROP VIEW unilog.records`,
	`CREATE OR REPLACE FUNCTION unilog.wake_streamer() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
	`CREATE ROLE another`,
	`SET ROLE owner`,
	`SELECT pg_read_file('PG_VERSION')`,
}

func TestPostgresRefusesWhatIsNotARolesOwn(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	// The same, for those who run their migrations by other means.
	sql := execute(t, nil, "migrate", "--sql", "--roles")
	owner := r.connect("owner") // stays, for others to try to end
	if _, err := owner.Exec(t.Context(), sql.out); err != nil {
		t.Fatalf("migrate --sql --roles: %v\n%s", err, sql.err)
	}
	r.makeUsers()
	// A grant too much is taken back.
	exec1(t, r.super, `GRANT ALL ON rides, unilog.checkpoints, unilog.records, unilog.batches TO rocketrides_api;
		GRANT CREATE ON SCHEMA public, unilog TO PUBLIC, rocketrides_streamer; GRANT EXECUTE ON FUNCTION unilog.records_between TO PUBLIC`)
	r.migrate("--roles")
	for user, statements := range refusedByPostgres {
		statements = append(statements, refusedByPostgresToAll...)
		conn := r.connect(user)
		for _, sql := range statements {
			_, err := conn.Exec(t.Context(), sql)
			if e := new(pgconn.PgError); !errors.As(err, &e) || e.Code != "42501" {
				t.Errorf("%s: %s: %v, want permission denied", user, sql, err)
			}
		}
	}
}

// refusedByRedis has what each user may not do.
var refusedByRedis = map[string][]string{
	"rocketrides_streamer": {
		"GET another", "DEL another", "XADD another * data x", "EVAL return{redis.call('XADD',KEYS[1],'*','data','x')} 1 another",
		"XREAD STREAMS rocket-rides-log 0", "SET rocket-rides-log x", "EXPIRE rocket-rides-log 1", "RENAME rocket-rides-log another",
	},
	"rocketrides_consumer": {
		"XREAD STREAMS another 0", "XREAD STREAMS rocket-rides-logs 0", "XADD rocket-rides-log * data x", "XTRIM rocket-rides-log MAXLEN 0", "DEL rocket-rides-log",
		"HSET {rocket-rides-log}:leader epoch 99", "DEL {rocket-rides-log}:leader", "HSET rocket-rides-log:1 a b", "DEL {rocket-rides-log}:consumers",
		"EVAL return{redis.call('DEL',KEYS[1])} 1 rocket-rides-log", "XGROUP CREATE rocket-rides-log g 0",
	},
}

// refusedByRedisToAll is what neither may do.
var refusedByRedisToAll = []string{
	"FLUSHALL", "KEYS *", "SCAN 0", "CONFIG GET *", "CONFIG SET maxmemory 1", "ACL LIST", "ACL SETUSER default on", "CLIENT LIST",
	"SCRIPT FLUSH", "FUNCTION FLUSH", "PUBLISH channel x", "MONITOR", "REPLICAOF NO ONE", "SHUTDOWN NOSAVE", "XINFO GROUPS rocket-rides-log",
}

// refusal is how Redis says it, and some versions of what a script calls.
var refusal = regexp.MustCompile("^NOPERM|^The user executing the script can't|ACL failure in script")

func TestRedisRefusesWhatIsNotARolesOwn(t *testing.T) {
	t.Parallel()
	r := &roles{T: t}
	r.makeUsersOfRedis()
	for user, commands := range refusedByRedis {
		client, err := r.redisClient(user)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range append(commands, refusedByRedisToAll...) {
			err := client.Do(t.Context(), client.B().Arbitrary(strings.Fields(command)...).Build()).Error()
			if err == nil || !refusal.MatchString(err.Error()) {
				t.Errorf("%s: %s: %v, want NOPERM", user, command, err)
			}
		}
	}
	r.mayReport()
	if _, err := r.redisClient(""); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v, want NOAUTH", err)
	}
}

// mayReport sees that consumers may say how far they are, and streamers may read that.
func (r *roles) mayReport() {
	r.Helper()
	for _, user := range []string{"rocketrides_consumer", "rocketrides_streamer"} {
		log, err := redislog.Open(r.Context(), patient(r.redisURL(user)), "rocket-rides-log")
		if err != nil {
			r.Fatal(err)
		}
		defer log.Close()
		err = log.Report(r.Context(), "mails", map[int]unilog.Cursor{0: {Offset: 3}, 5: {Offset: 4}})
		if err == nil {
			_, err = log.Reports(r.Context())
		}
		if err == nil && user == "rocketrides_streamer" {
			err = log.ForgetReports(r.Context(), "mails")
		}
		if err != nil {
			r.Errorf("%s: %v", user, err)
		}
	}
}
