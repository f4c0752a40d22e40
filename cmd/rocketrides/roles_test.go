package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// roles are servers on which every process has a user of its own, and nobody is
// a superuser but the test.
type roles struct {
	*testing.T
	postgres, redis string // URLs
	super           *pgxpool.Pool
	admin           rueidis.Client
}

func newRoles(t *testing.T) *roles {
	t.Helper()
	r := &roles{T: t, postgres: testenv.Postgres(t).URL()}
	var err error
	if r.super, err = pgxpool.New(t.Context(), r.postgres); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.super.Close)
	exec1(t, r.super, `CREATE USER owner CREATEROLE;
		GRANT pg_read_all_stats TO owner WITH ADMIN OPTION;
		ALTER SCHEMA public OWNER TO owner; -- before Postgres 15 it is not the database's
		DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO owner', current_database()); END $$`)
	r.makeUsersOfRedis()
	return r
}

// migrate runs rocketrides migrate as the database's owner.
func (r *roles) migrate(flags ...string) {
	r.Helper()
	if ran := execute(r.T, r.env("owner"), append([]string{"migrate"}, flags...)...); ran.code != 0 {
		r.Fatalf("migrate %v: %+v", flags, ran)
	}
}

// makeUsers gives each role a user of its name.
func (r *roles) makeUsers() {
	r.Helper()
	exec1(r.T, r.super, `CREATE USER api IN ROLE rocketrides_api;
		CREATE USER streamer IN ROLE rocketrides_streamer;
		CREATE USER consumer IN ROLE rocketrides_consumer;
		CREATE USER reader IN ROLE rocketrides_reader;
		CREATE USER starter IN ROLE rocketrides_consumer, rocketrides_reader`)
}

const redisUsersFile = "../../deploy/redis/users.acl"

// makeUsersOfRedis starts a Redis and gives it the users of the file that comes
// with the program, each with its name as password.
func (r *roles) makeUsersOfRedis() {
	r.Helper()
	rules, err := os.ReadFile(redisUsersFile)
	if err != nil {
		r.Fatal(err)
	}
	rules = regexp.MustCompile(`(?m)^user (\w+) on #\w+`).ReplaceAllFunc(rules, func(rule []byte) []byte {
		name := strings.Fields(string(rule))[1]
		return fmt.Appendf(nil, "user %s on #%x", name, sha256.Sum256([]byte(name)))
	})
	file := filepath.Join(r.TempDir(), "users.acl")
	// At first anyone may ask for a sign of life, as the start does.
	others := regexp.MustCompile(`(?m)^user default .*\n`).ReplaceAll(rules, nil)
	if err := os.WriteFile(file, others, 0o600); err != nil {
		r.Fatal(err)
	}
	r.redis = testenv.Redis(r.T, "--aclfile", file).URL()
	if r.admin, err = r.redisClient("rocketrides_admin"); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(file, rules, 0o600); err != nil {
		r.Fatal(err)
	}
	if err := r.admin.Do(r.Context(), r.admin.B().AclLoad().Build()).Error(); err != nil {
		r.Fatal(err)
	}
}

func (r *roles) redisURL(user string) string {
	if user == "" {
		return r.redis
	}
	return strings.Replace(r.redis, "unix://", "unix://"+user+":"+user+"@", 1)
}

func (r *roles) redisClient(user string) (rueidis.Client, error) {
	r.Helper()
	option, err := rueidis.ParseURL(r.redisURL(user))
	if err != nil {
		r.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := rueidis.NewClient(option)
	if err == nil {
		r.Cleanup(client.Close)
	}
	return client, err
}

func (r *roles) postgresURL(user string) string {
	u, err := url.Parse(r.postgres)
	if err != nil {
		r.Fatal(err)
	}
	u.User = url.User(user)
	return u.String()
}

// env is that of a process. Whatever reads is a consumer to Redis.
func (r *roles) env(user string) []string {
	ofRedis := map[string]string{"streamer": "rocketrides_streamer", "consumer": "rocketrides_consumer", "starter": "rocketrides_consumer", "reader": "rocketrides_consumer"}
	return []string{"DATABASE_URL=" + r.postgresURL(user), "REDIS_URL=" + r.redisURL(ofRedis[user])}
}

func (r *roles) connect(user string) *pgx.Conn {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.postgresURL(user))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// oldChunk is one of a time before the roles, which is full soon.
const oldChunk = `CREATE TABLE log_records_p0_1_to_5 (LIKE log_records INCLUDING ALL);
	ALTER TABLE log_records ATTACH PARTITION log_records_p0_1_to_5 FOR VALUES FROM (0, 1) TO (0, 6)`

func TestWholeSystemUnderLeastPrivilege(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	r.migrate()
	if _, err := r.connect("owner").Exec(t.Context(), oldChunk); err != nil {
		t.Fatal(err)
	}
	r.migrate("--roles")
	r.makeUsers()
	r.migrate("--roles")

	streamer := start(t, r.env("streamer"), "streamer", "--retention=1ms", "--keep-records=1")
	streamer.says("leading")
	consumers := []*process{start(t, r.env("consumer"), "consumer", "c1", "--park-rejected"), start(t, r.env("consumer"), "consumer", "c2", "--park-rejected")}
	api := start(t, r.env("api"), "api", "--port=0")
	book := r.booker(api)
	book()
	streamer.says("archive chunk dropped", "last=5")
	// What it takes to mend a log that was lost.
	if err := r.admin.Do(t.Context(), r.admin.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	streamer.says("the log has lost records")
	// Who begins without the history reads all, once.
	execute(t, r.env("consumer"), "consumer", "c3", "--bootstrap").fails(t, 1, "permission denied")
	starter := start(t, r.env("starter"), "consumer", "c3", "--bootstrap", "--park-rejected")
	starter.says("bootstrapped")
	book()

	if ran := execute(t, r.env("reader"), "verify", "c1", "c2", "c3", "--wait=20s"); ran.code != 0 {
		t.Errorf("verify: %+v", ran)
	}
	r.checkStatus()
	if _, err := r.connect("api").Exec(t.Context(), `INSERT INTO staged_log_records (action, object, data) VALUES ('create', 'ride', '{}')`); err != nil {
		t.Fatal(err)
	}
	for _, c := range consumers {
		c.says("parked in dead_letters")
	}
	for _, p := range append(consumers, streamer, api, starter) {
		if said := p.stop(); strings.Contains(said, "permission denied") || strings.Contains(said, "NOPERM") {
			t.Errorf("it said\n%s", said)
		}
	}
	// What a process was refused and made no fuss about.
	refused, err := r.admin.Do(t.Context(), r.admin.B().Arbitrary("ACL", "LOG").Build()).ToAny()
	if entries, _ := refused.([]any); err != nil || len(entries) != 0 {
		t.Errorf("Redis refused %v, %v", refused, err)
	}
	r.checkChunks()
}

// booker returns a function that books a few rides at the api.
func (r *roles) booker(api *process) func() {
	r.Helper()
	for line := range api.lines {
		if _, address, ok := strings.Cut(line, "http://"); ok {
			address, _, _ = strings.Cut(address, `"`)
			return func() {
				r.Helper()
				ran := execute(r.T, nil, "simulator", "--url=http://"+strings.TrimSpace(address), "--rate=20", "--for=1s")
				if ran.code != 0 {
					r.Fatalf("simulator: %+v", ran)
				}
			}
		}
	}
	r.Fatal("the api does not listen")
	return nil
}

func (r *roles) checkStatus() {
	r.Helper()
	ran := execute(r.T, r.env("reader"), "status", "--json")
	var status struct {
		unilog.Status
		Troubles []string `json:"troubles"`
	}
	if err := json.Unmarshal([]byte(ran.out), &status); err != nil {
		r.Fatalf("status: %v in %+v", err, ran)
	}
	if l := status.Leader; l == nil || l.User != "streamer" || status.LogError != "" || len(status.Troubles) > 0 || status.First < 6 {
		r.Errorf("status: %+v", ran)
	}
}

// checkChunks sees that any user with the streamer's role can look after the
// chunks that another has made, and that it sees which records are staged.
func (r *roles) checkChunks() {
	r.Helper()
	var owners []string
	var last *int64
	err := r.connect("streamer").QueryRow(r.Context(), `SELECT array_agg(DISTINCT pg_get_userbyid(relowner)::text),
		pg_sequence_last_value('staged_log_records_id_seq')
		FROM pg_class WHERE relname LIKE 'log\_records%' AND relkind IN ('r', 'p')`).Scan(&owners, &last)
	if err != nil || len(owners) != 1 || owners[0] != "rocketrides_streamer" || last == nil {
		r.Errorf("the archive is owned by %q, the last staged id is %v, %v", owners, last, err)
	}
}

// refusedByPostgres has what each role may not do, and others may.
var refusedByPostgres = map[string][]string{
	"api": {
		`UPDATE rides SET distance = 0`,
		`DELETE FROM rides`,
		`INSERT INTO rides (id, distance) OVERRIDING SYSTEM VALUE VALUES (1, 1)`,
		`SELECT FROM staged_log_records`,
		`DELETE FROM staged_log_records`,
		`INSERT INTO staged_log_records (id, action, object, data) OVERRIDING SYSTEM VALUE VALUES (1, 'a', 'o', '{}')`,
		`SELECT nextval('staged_log_records_id_seq')`,
		`SELECT FROM log_records`,
		`SELECT FROM log_partitions`,
		`SELECT FROM checkpoints`,
		`SELECT FROM consumer_states`,
		`SELECT FROM dead_letters`,
	},
	"streamer": {
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
		`SELECT FROM dead_letters`,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'`,
	},
	"consumer": {
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
	`INSERT INTO rides_migrations (version_id, is_applied) VALUES (99999, true)`,
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
		"XREAD STREAMS another 0", "XADD rocket-rides-log * data x", "XTRIM rocket-rides-log MAXLEN 0", "DEL rocket-rides-log",
		"HSET {rocket-rides-log}:leader epoch 99", "DEL {rocket-rides-log}:leader", "INFO",
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
