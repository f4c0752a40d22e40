package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/status"
)

// roles are servers on which every process has a user of its own, and nobody is
// a superuser but the test.
type roles struct {
	*testing.T
	postgres *private.Server
	super    *pgxpool.Pool
	redis    string // URL
	admin    rueidis.Client
}

func newRoles(t *testing.T) *roles {
	t.Helper()
	r := &roles{T: t, postgres: testenv.Postgres(t)}
	var err error
	if r.super, err = pgxpool.New(t.Context(), r.postgres.URL()); err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, r.super)
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

const redisUsersFile = "../../../deploy/redis/users.acl"

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
	option, err := rueidis.ParseURL(patient(r.redisURL(user)))
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
	u, err := url.Parse(r.postgres.URL())
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

func TestWholeSystemUnderLeastPrivilege(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	r.migrate("--roles")
	r.makeUsers()

	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	streamer := start(t, r.env("streamer"), "streamer", "--admin-listen="+admin, "--retention=1ms", "--keep-records=1", "--simulate-failures=0.5", "--seed=1")
	streamer.says("leading")
	processes := []*process{streamer}
	for _, name := range []string{"c1", "c2"} {
		processes = append(processes, start(t, r.env("consumer"), "consumer", name, "--park-rejected"))
	}
	var received atomic.Int64
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if received.Add(1) == 1 {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	defer receiver.Close()
	deliverer := start(t, r.env("consumer"), "deliver", "d1", "--to="+receiver.URL, "--unsigned", "--only=ride", "--park")
	processes = append(processes, deliverer)
	api := start(t, r.env("api"), "api", "--port=0", "--max-backlog=1000")
	book := r.booker(api)
	book()
	deliverer.says("parked in dead_letters")
	awaitStatus(t, r.env("reader"), func(s *status.Status) bool { return s.First > 5 }) // what is old is deleted
	// What it takes to mend a log that was lost.
	if err := r.admin.Do(t.Context(), r.admin.B().Flushall().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	streamer.says("the log has lost records")
	r.migrate("--roles") // nobody is held up
	bootstrapped := start(t, r.env("starter"), "consumer", "c3", "--bootstrap", "--park-rejected")
	bootstrapped.says("bootstrapped")
	if ran := execute(t, r.env("api"), "log", "stage", "--object=ride", "--action=create", "--data={}"); ran.code != 0 {
		t.Fatalf("log stage: %+v", ran)
	}
	bootstrapped.says("parked in dead_letters")
	book()

	if ran := execute(t, r.env("reader"), "verify", "c1", "c2", "c3", untilCaughtUp); ran.code != 0 {
		t.Errorf("verify: %+v", ran)
	}
	r.checkStatus()
	r.checkLog()
	(&scraped{streamer, "http://" + admin}).until(map[string]float64{"unilog_status_up": 1, `unilog_dead_letters{consumer="c1"}`: 1})
	for _, p := range append(processes, bootstrapped, api) {
		p.stop()
	}
	r.checkStreamer()
	r.checkNothingWasRefused()
}

// TestRepartitionUnderLeastPrivilege changes the number of partitions as the owner
// of the database.
func TestRepartitionUnderLeastPrivilege(t *testing.T) {
	t.Parallel()
	r := newRoles(t)
	r.migrate("--roles")
	r.makeUsers()
	streamer := start(t, r.env("streamer"), "streamer")
	streamer.says("leading")
	api := start(t, r.env("api"), "api", "--port=0", "--max-backlog=1000")
	book := r.booker(api)
	book()
	for _, partitions := range []int{4, 2} {
		r.migrate(fmt.Sprintf("--partitions=%d", partitions))
		book()
	}
	awaitStatus(t, r.env("reader"), func(s *status.Status) bool {
		return s.Leaders() == 4 && len(s.Troubles()) == 0 && s.Staged == 0 && s.Published == s.Numbered && s.Log.Offset == s.Numbered
	})
	for _, p := range []*process{streamer, api} {
		p.stop()
	}
	r.checkStreamer()
	r.checkNothingWasRefused()
}

// booker returns a function that books a few rides at the api.
func (r *roles) booker(api *process) func() {
	r.Helper()
	said, listens := api.readTo(func(line string) bool { return strings.Contains(line, "http://") })
	if !listens {
		r.Fatalf("the api does not listen:\n%s", said)
	}
	_, address, _ := strings.Cut(said, "http://")
	address, _, _ = strings.Cut(address, `"`)
	return func() {
		r.Helper()
		ran := execute(r.T, nil, "simulator", "--url=http://"+strings.TrimSpace(address), "--rate=20", "--for=1s")
		if ran.code != 0 {
			r.Fatalf("simulator: %+v", ran)
		}
	}
}

func (r *roles) checkStatus() {
	r.Helper()
	await.That(r, "the status as a reader", func() string {
		ran := execute(r.T, r.env("reader"), "status", "--json")
		return r.wrongStatus(ran)
	})
}

func (r *roles) wrongStatus(ran result) (instead string) {
	r.Helper()
	var status struct {
		status.Status
		Troubles []string `json:"troubles"`
	}
	if err := json.Unmarshal([]byte(ran.out), &status); err != nil {
		r.Fatalf("status: %v in %+v", err, ran)
	}
	if l := status.Leader; l == nil || l.User != "streamer" || l.Seconds <= 0 || status.LogError != "" {
		return fmt.Sprintf("%+v", ran)
	}
	for _, c := range status.Consumers {
		if c.DeadLetters != 1 {
			r.Errorf("%s has parked %d records, want 1", c.Name, c.DeadLetters)
		}
	}
	return ""
}

// checkLog sees that a reader may look into the log, and the owner redact what is in it.
func (r *roles) checkLog() {
	r.Helper()
	var last string
	if err := r.super.QueryRow(r.Context(), `SELECT max("offset")::text FROM unilog.records`).Scan(&last); err != nil {
		r.Fatal(err)
	}
	owner := []string{"DATABASE_URL=" + r.postgresURL("owner"), "REDIS_URL=" + r.redisURL("rocketrides_admin")}
	for _, c := range []struct {
		env  []string
		args string
	}{
		{r.env("reader"), "log tail"},
		{r.env("reader"), "log get 0 " + last},
		{r.env("reader"), "log find --only=ride"},
		{owner, "log redact 0 " + last + " --reason=test"},
		{r.env("reader"), "verify c1 c2 c3"},
	} {
		if ran := execute(r.T, c.env, strings.Fields(c.args)...); ran.code != 0 || ran.out == "" {
			r.Errorf("%s: %+v", c.args, ran)
		}
	}
}

// checkStreamer sees that a streamer may do what it does not need every day.
func (r *roles) checkStreamer() {
	r.Helper()
	var last *int64
	var seesAll bool // or old transactions of others would not be counted
	conn := r.connect("streamer")
	err := conn.QueryRow(r.Context(), `SELECT pg_sequence_last_value('unilog.staged_records_id_seq'), pg_has_role('pg_read_all_stats', 'USAGE')`).Scan(&last, &seesAll)
	if err != nil || last == nil || !seesAll {
		r.Errorf("the last staged id is %v, the streamer sees all sessions: %t, %v", last, seesAll, err)
	}
	var ended bool
	err = conn.QueryRow(r.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND state_change < now()`,
		r.connect("streamer").PgConn().PID()).Scan(&ended)
	if err != nil || !ended {
		r.Errorf("the session of another streamer was ended: %t, %v", ended, err)
	}
}

// checkNothingWasRefused sees what the servers refused, and made no process fail.
func (r *roles) checkNothingWasRefused() {
	r.Helper()
	said, err := os.ReadFile(r.postgres.Options().LogFile)
	if err != nil || len(said) == 0 {
		r.Fatalf("the log of Postgres: %d bytes, %v", len(said), err)
	}
	if lines := regexp.MustCompile(`.*(permission denied|must be ).*`).FindAll(said, -1); len(lines) > 0 {
		r.Errorf("Postgres refused %s", lines)
	}
	refused, err := r.admin.Do(r.Context(), r.admin.B().Arbitrary("ACL", "LOG").Build()).ToArray()
	for _, entry := range refused {
		// Each start asks for a setting, and goes on without.
		if said := entry.String(); !strings.Contains(said, "config|get") {
			r.Errorf("Redis refused %s", said)
		}
	}
	if err != nil {
		r.Error(err)
	}
}
