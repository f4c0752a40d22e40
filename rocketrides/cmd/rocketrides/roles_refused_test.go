package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
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
		`SELECT data FROM staged_log_records`,
		`SELECT id FROM staged_log_records FOR UPDATE`,
		`DELETE FROM staged_log_records`,
		`INSERT INTO staged_log_records (id, action, object, data) OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'o', '{}')`,
		`SELECT nextval('staged_log_records_id_seq')`,
		`SELECT FROM log_records`,
		`SELECT log_id FROM log_partitions`,
		`SELECT partition FROM log_partitions FOR UPDATE`,
		`UPDATE log_partitions SET epoch = epoch + 1`,
		`SELECT FROM checkpoints`,
		`SELECT FROM consumer_states`,
		`SELECT FROM dead_letters`,
	},
	"streamer": {
		`SELECT FROM idempotency_keys`,
		`SELECT FROM rides`,
		`INSERT INTO rides (distance) VALUES (1)`,
		`INSERT INTO staged_log_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`UPDATE staged_log_records SET data = '{}'`,
		`SELECT nextval('staged_log_records_id_seq')`,
		`SELECT setval('staged_log_records_id_seq', 1)`,
		`UPDATE log_partitions SET log_id = gen_random_uuid()`,
		`DELETE FROM log_partitions`,
		`UPDATE checkpoints SET "offset" = 0`,
		`SELECT FROM checkpoints FOR UPDATE`,
		`SELECT FROM consumer_states`,
		`SELECT data FROM dead_letters`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'`,
	},
	"consumer": {
		`SELECT FROM idempotency_keys`,
		`SELECT FROM rides`,
		`SELECT FROM staged_log_records`,
		`INSERT INTO staged_log_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`UPDATE log_partitions SET epoch = epoch + 1`,
		`SELECT FROM log_partitions FOR UPDATE`,
		`INSERT INTO log_records SELECT * FROM log_records`,
		`DELETE FROM log_records`,
		`DROP TABLE log_records`,
		`DELETE FROM checkpoints`,
		`DELETE FROM consumer_states`,
		`DELETE FROM dead_letters`,
		`UPDATE dead_letters SET discarded_at = now()`,
	},
	"reader": {
		`SELECT FROM idempotency_keys`,
		`INSERT INTO rides (distance) VALUES (1)`,
		`INSERT INTO staged_log_records (action, object, data) VALUES ('a', 'o', '{}')`,
		`DELETE FROM staged_log_records`,
		`UPDATE log_partitions SET epoch = epoch + 1`,
		`DELETE FROM log_records`,
		`UPDATE checkpoints SET "offset" = 0`,
		`SELECT FROM checkpoints FOR UPDATE`,
		`UPDATE consumer_states SET total_distance = 0`,
		`DELETE FROM dead_letters`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'`,
	},
}

// refusedByPostgresToAll is what none of the roles may do.
var refusedByPostgresToAll = []string{
	`INSERT INTO unilog_migrations (set_name, version, name) VALUES ('rides', 99999, 'newer')`,
	`DROP TABLE rides`,
	`TRUNCATE staged_log_records`,
	`ALTER TABLE staged_log_records DISABLE TRIGGER ALL`,
	`CREATE OR REPLACE FUNCTION wake_log_leader() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
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
	exec1(t, r.super, `GRANT ALL ON rides, checkpoints, log_records TO rocketrides_api; GRANT CREATE ON SCHEMA public TO PUBLIC`)
	r.migrate("--roles")
	for user, statements := range refusedByPostgres {
		statements = append(statements, refusedByPostgresToAll...)
		if user != "streamer" {
			statements = append(statements, `CREATE TABLE another ()`)
		}
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
		"HSET {rocket-rides-log}:leader epoch 99", "DEL {rocket-rides-log}:leader",
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
	if _, err := r.redisClient(""); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v, want NOAUTH", err)
	}
}
