package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// asOwner lets all processes connect as the owner of the database, who may nothing else,
// and migrates as that.
func (m *managed) asOwner() {
	m.Helper()
	database := m.super.Config().ConnConfig.Database
	owner := "owner_of_" + database
	m.exec(fmt.Sprintf(`CREATE ROLE %[2]s LOGIN; ALTER DATABASE %[1]s OWNER TO %[2]s; ALTER SCHEMA public OWNER TO %[2]s`, database, owner))
	m.Cleanup(func() {
		const sql = `ALTER DATABASE %[1]s OWNER TO postgres; DROP OWNED BY %[2]s CASCADE; DROP ROLE %[2]s`
		if _, err := m.super.Exec(context.Background(), fmt.Sprintf(sql, database, owner)); err != nil {
			m.Error(err)
		}
	})
	for _, process := range []string{"owner", "api", "streamer", "consumer", "reader"} {
		m.urls[process] = m.as(owner, process)
	}
	if m.logs == nil {
		m.onSharedRedis()
	}
}

// as is the database's URL for a user.
func (m *managed) as(user, process string) string {
	u, err := url.Parse(m.super.Config().ConnString())
	if err != nil {
		m.Fatal(err)
	}
	u.User = url.User(user)
	query := u.Query()
	query.Set("application_name", process)
	u.RawQuery = query.Encode()
	return u.String()
}

// connectRedis is for an admin.
func (m *managed) connectRedis(url, stream string) {
	m.Helper()
	log, err := redislog.Open(m.Context(), patient(url), stream)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(log.Close)
	m.admin, m.stream = log.Client(), stream
}

func (m *managed) onSharedRedis() {
	m.Helper()
	url := testenv.SharedRedis(m.T)
	m.connectRedis(url, testenv.StreamName(m.T))
	m.logs = map[string]string{"streamer": url, "others": url}
	m.doctor = append(m.doctor, "appendonly is no")
}

// ofOwner makes a database of an owner's own on the servers that tests share.
func (m *managed) ofOwner() {
	m.Helper()
	m.super, _ = emptyDatabase(m.T)
	m.asOwner()
}

// ownerOfOneDatabase has a server of its own, since roles, which are missing there, are the
// whole server's.
func ownerOfOneDatabase(m *managed) {
	m.ownServer()
	m.asOwner()
	m.exec(`REVOKE EXECUTE ON FUNCTION pg_terminate_backend, pg_cancel_backend FROM PUBLIC`)
	m.doctor = append(m.doctor, "may not end sessions")
	m.do("owner", "migrate")
	r := execute(m.T, m.env("owner"), "migrate", "--roles")
	if words := "this user may make no roles: let one with CREATEROLE, or a superuser, say CREATE ROLE "; r.code == 0 || !strings.Contains(r.err, words) {
		m.Errorf("migrate --roles says %+v", r)
	}
	m.said["migrate --roles as owner"] = r.err
}

// rolesByHand has a superuser make the roles that migrate --roles lacks, on a server of
// its own, since roles are the whole server's.
func rolesByHand(m *managed) {
	m.ownServer()
	m.asOwner()
	for _, role := range []string{"api", "streamer", "consumer", "reader"} {
		m.exec(`CREATE ROLE rocketrides_` + role)
	}
	said := execute(m.T, m.env("owner"), "migrate", "--roles")
	if said.code != 0 || !strings.Contains(said.out, "change=\"GRANT pg_read_all_stats TO rocketrides_streamer\"") {
		m.Fatalf("migrate --roles: %+v", said)
	}
	m.said["migrate --roles as owner"] = said.out
	for process, role := range map[string]string{"api": "api", "streamer": "streamer", "consumer": "consumer", "reader": "reader"} {
		m.exec(`CREATE USER ` + process + ` IN ROLE rocketrides_` + role)
		m.urls[process] = m.as(process, process)
	}
}

// limit sets what new sessions of the owner's begin with, for the role and the database.
func (m *managed) limit(settings ...string) {
	m.Helper()
	setAll(m.T, m.super, settings...)
	for _, setting := range settings {
		m.exec(`ALTER ROLE owner_of_` + m.super.Config().ConnConfig.Database + ` SET ` + setting)
	}
}

var timeouts = []string{
	`statement_timeout = '1s'`, `lock_timeout = '500ms'`, `idle_in_transaction_session_timeout = '1s'`, `idle_session_timeout = '1s'`,
}

func shortTimeouts(m *managed) {
	m.ofOwner()
	m.limit(append(timeouts, m.since17(`transaction_timeout = '1s'`)...)...)
	m.idles = true
	m.doctor = append(m.doctor, "idle_session_timeout is 1000 ms")
	m.do("owner", "migrate")
}

// since17 is nothing on a server that lacks the setting.
func (m *managed) since17(settings ...string) []string {
	if m.version() < 170000 {
		return nil
	}
	return settings
}

func (m *managed) version() (n int) {
	m.Helper()
	if err := m.super.QueryRow(m.Context(), `SELECT current_setting('server_version_num')::int`).Scan(&n); err != nil {
		m.Fatal(err)
	}
	return n
}

func serializable(m *managed) {
	m.ofOwner()
	m.limit(`default_transaction_isolation = 'serializable'`)
	m.do("owner", "migrate")
}

func turkish(m *managed) {
	m.super, _ = emptyDatabase(m.T)
	m.speakTurkish()
	m.asOwner()
	m.do("owner", "migrate")
}

// speakTurkish moves to a database in whose order i, I, ı and İ are where no other has
// them. A Postgres before 15, or built without ICU, has none: it says so.
func (m *managed) speakTurkish() {
	m.Helper()
	var hasICU bool
	err := m.super.QueryRow(m.Context(), `SELECT EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i')`).Scan(&hasICU)
	if err != nil {
		m.Fatal(err)
	}
	if !hasICU || m.version() < 150000 {
		m.faults = append(m.faults, "(this Postgres has no databases of ICU's collations)")
		return
	}
	name, first := "tr_"+m.super.Config().ConnConfig.Database, m.super
	m.exec(`CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'tr'`)
	m.Cleanup(func() {
		if err := postgres.WhenUnused(context.Background(), first, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			m.Error(err)
		}
	})
	u, err := url.Parse(m.super.Config().ConnString())
	if err != nil {
		m.Fatal(err)
	}
	u.Path = "/" + name
	m.connect(u.String())
	var order string
	if err := m.super.QueryRow(m.Context(), `SELECT string_agg(c, '' ORDER BY c) FROM unnest('{Istanbul,ılık,izmir}'::text[]) AS c`).Scan(&order); err != nil || order != "ılıkIstanbulizmir" {
		m.Errorf("the order is %s, %v", order, err)
	}
}

func (m *managed) connect(url string) {
	m.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		m.Fatal(err)
	}
	config.MaxConns = 2 // of those that superusers have on a small server
	if m.super, err = pgxpool.NewWithConfig(m.Context(), config); err != nil {
		m.Fatal(err)
	}
	testenv.ClosePool(m, m.super)
}

func (m *managed) ownServer(args ...string) {
	m.Helper()
	m.connect(testenv.Postgres(m.T, args...).URL())
}

// smallServer has everything at once, and 17 connections for two streamers, three
// processes of consumers, an api and the commands.
func smallServer(m *managed) {
	var args []string
	for _, setting := range []string{
		"max_connections=20", "superuser_reserved_connections=3", "default_transaction_isolation=serializable", "statement_timeout=1s",
		"lock_timeout=500ms", "idle_in_transaction_session_timeout=1s", "idle_session_timeout=2s",
	} {
		args = append(args, "-c", setting)
	}
	m.ownServer(args...)
	m.speakTurkish()
	m.asOwner()
	m.exec(`REVOKE EXECUTE ON FUNCTION pg_terminate_backend, pg_cancel_backend FROM PUBLIC`)
	m.limit(m.since17(`transaction_timeout = '1s'`)...)
	m.idles = true
	m.doctor = append(m.doctor, "may not end sessions")
	m.do("owner", "migrate")
}

// guardedRedis has users as a managed Redis gives them, from users.acl, for keys of one
// prefix.
func guardedRedis(m *managed) {
	m.super, _ = emptyDatabase(m.T)
	const may = "resetchannels -@all +ping +evalsha +eval +hmget +hset +exists +xinfo|stream +xrange +xadd +xtrim +xread +del +hgetall +hdel"
	const stream = "app:{log}"
	authority := testenv.NewAuthority(m.T)
	address := testenv.TLSRedis(m.T, authority, append([]string{"--user", "app", "on", ">secret", "~app:*"}, strings.Fields(may)...)...)
	cert, key := authority.Issue("client")
	to := func(user string) string {
		query := url.Values{"cacert": {authority.File}, "cert": {cert}, "key": {key}, "dial_timeout": {"5m"}} // however slow the machine is
		return "rediss://" + user + address + "/0?" + query.Encode()
	}
	m.logs = map[string]string{"streamer": to("app:secret@"), "others": to("app:secret@")}
	m.asOwner()
	m.connectRedis(to(""), stream)
	m.doctor = []string{"Redis's version, maxmemory-policy and appendonly cannot be seen", "appendfsync cannot be seen", "the clock of Redis cannot be seen"}
	m.do("owner", "migrate")

	m.stream = "another"
	r := execute(m.T, append(m.env("streamer"), "ALLOW_UNSAFE=false"), "doctor")
	if words := "Redis does not let this user read the log (NOPERM"; r.code != 1 || !strings.Contains(r.out, words) {
		m.Errorf("of a stream without the prefix the doctor says %+v", r)
	}
	m.said["doctor of a stream without the prefix"] = r.out
	m.stream = stream
}

// behindPooler has the api and consumers behind a pooler in transaction mode, and the
// streamers behind it in session mode. In transaction mode they are refused, and leave
// the sessions alone.
func behindPooler(m *managed) {
	m.ofOwner()
	m.do("owner", "migrate")
	direct := m.urls["streamer"]
	pooler := testenv.ManagedPooler(m.T, direct)
	to := func(database, query string) string {
		u, err := url.Parse(pooler.URL)
		if err != nil {
			m.Fatal(err)
		}
		u.Path, u.RawQuery = database, query
		return u.String()
	}
	m.urls["streamer"] = to("shared", "default_query_exec_mode=cache_describe")
	words := "a pooler (pgbouncer or the like) is between, in transaction mode"
	execute(m.T, append(m.env("streamer"), "ALLOW_UNSAFE=false"), "streamer").fails(m.T, 1, words)
	stubborn := start(m.T, m.env("streamer"), "streamer")
	said, halted := stubborn.readTo(func(line string) bool {
		return strings.Contains(line, "halted until this is mended") && strings.Contains(line, "a pooler (pgbouncer or the like) in transaction mode is between")
	})
	if m.said["streamer in transaction mode, with --allow-unsafe"] = said + stubborn.stop(); !halted {
		m.Errorf("a streamer that insists says\n%s", said)
	}

	m.urls["consumer"] = to("shared", "")
	hinted := execute(m.T, append(m.env("consumer"), "ALLOW_UNSAFE=false"), "doctor")
	if !strings.Contains(hinted.out, "add default_query_exec_mode=cache_describe to the connection string") {
		m.Errorf("the doctor says %+v", hinted)
	}
	m.said["doctor as consumer"] = hinted.out
	m.urls["streamer"] = to("kept", "")
	for _, process := range []string{"api", "consumer", "reader"} {
		m.urls[process] = to("shared", "default_query_exec_mode=cache_describe")
	}
	m.doctor = append(m.doctor, "as far as can be seen in session mode")
}
