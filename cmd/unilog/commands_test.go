package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

func tables(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	rows, _ := pool.Query(t.Context(), `SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'unilog'::regnamespace ORDER BY relname`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestMigrateMakesTheLibrarysTablesAlone(t *testing.T) {
	t.Parallel()
	pool, env := empty(t)
	for _, args := range [][]string{{"streamer"}, {"deliver", "d", "--to=https://a.example", "--unsigned"}, {"status"}, {"dashboard"}, {"consumers", "list"}, {"deadletters", "list"}, {"log", "switch", "--to=postgres:"}} {
		fails(t, env, args, 1, "run `unilog migrate`")
	}
	says(t, env, []string{"migrate", "--partitions=2"}, "the database's tables are up to date", "the log has 2 partitions now (1 before)")
	const want = "batches checkpoints dead_letters interventions leases log members migrations partitions places readers redactions staged_records"
	if got := tables(t, pool); got != want {
		t.Errorf("the tables are %s", got)
	}
	// What it prints does the same.
	other, _ := empty(t)
	exec1(t, other, execute(t, env, "migrate", "--sql").out)
	if got := tables(t, other); got != want {
		t.Errorf("the statements make %s", got)
	}
	fails(t, env, []string{"migrate", "--partitions=1025"}, 2, "from 1 to 1024")
}

// Writers and consumers may have databases of their own.
func TestSidesOfTheirOwn(t *testing.T) {
	t.Parallel()
	source, writers := empty(t)
	_, consumers := empty(t)
	says(t, writers, []string{"migrate", "--side=writers"}, "up to date")
	says(t, consumers, []string{"migrate", "--side=consumers"}, "up to date")
	if got := tables(t, source); strings.Contains(got, "checkpoints") {
		t.Errorf("the writers' tables are %s", got)
	}
	start(t, writers, "streamer")("leading")
	exec1(t, source, order)
	await.True(t, "the record to be published", func() bool {
		return strings.Contains(execute(t, writers, "status").out, "published  1\n")
	})
	says(t, writers, []string{"consumers", "list"}, "no consumer has registered yet")
	report(t, writers, "mails")
	saysSoon(t, writers, []string{"consumers", "list"}, "mails 1 0 0.0 - ", " elsewhere")
	saysSoon(t, writers, []string{"status"}, "mails 1 0 0.0 - ", "nothing is stuck")
	says(t, writers, []string{"consumers", "forget", "mails"}, "mails is forgotten here")
	says(t, writers, []string{"consumers", "list"}, "no consumer has registered yet")
	says(t, writers, []string{"log", "switch", "--to=postgres:"}, "streamers and consumers go on in the new place")
	fails(t, writers, []string{"deadletters", "list"}, 1, "one side of the tables alone (not unilog_consumer)")
	says(t, consumers, []string{"deadletters", "list"})
	fails(t, consumers, []string{"consumers", "forget", "c"}, 1, "no consumer c has registered")
	fails(t, consumers, []string{"status"}, 1, "one side of the tables alone (not unilog_log)")
	fails(t, consumers, []string{"migrate", "--side=consumers", "--partitions=2"}, 2, "--partitions is for the writers' side")
}

// report says through the log that a consumer elsewhere has applied its first record.
func report(t *testing.T, env []string, name string) {
	t.Helper()
	value := func(i int) string { _, v, _ := strings.Cut(env[i], "="); return v }
	log, err := redislog.Open(t.Context(), value(1), value(2))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := log.Report(t.Context(), name, map[int]unilog.Cursor{0: {Offset: 1}}); err != nil {
		t.Fatal(err)
	}
}

func TestStatusNamesThisCommand(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, order)
	says(t, env, []string{"status"}, "staged 1", "no consumer has registered yet", "1 records wait; start one with `unilog streamer`")
	says(t, env, []string{"status", "--json"}, `"staged":1,`, `"consumers":[]`)
	fails(t, env[:1], []string{"streamer"}, 1, "unilog: REDIS_URL is not set: set it or LOG_URL\n")
	// An audit is drawn, or refused; in the environment, it is for the other commands.
	fails(t, env, []string{"status", "--audit=/nowhere"}, 2, "--audit is for --watch on a terminal: elsewhere, `unilog verify` audits")
	fails(t, env, []string{"status", "--watch", "--truth=SELECT 1"}, 2, "--truth is for --watch on a terminal")
	says(t, append(env, "AUDIT_TRUTH=SELECT 1", "AUDIT_TOTALS=SELECT 'c', 1", "AUDIT_AMOUNT=1"), []string{"status"}, "staged 1")
}

func TestVerify(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, order)
	exec1(t, pool, order)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('billing', 0), ('mailer', 0)`)
	audit := filepath.Join(t.TempDir(), "audit.sql")
	if err := os.WriteFile(audit, []byte(`-- What billing must have added up.
-- truth:
SELECT sum(amount)
FROM orders;
-- totals:
SELECT consumer, total FROM order_totals
-- amount:
(data ->> 'amount')::numeric
-- consumers: billing
-- many: orders
-- unit: EUR
`), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"verify", "--truth=SELECT sum(amount) FROM orders", "--totals=SELECT consumer, total FROM order_totals", "--amount=(data ->> 'amount')::numeric"}
	file := []string{"verify", "--audit=" + audit}
	says(t, env, flags, "billing 5.00 0 0 5.00 0 0 agrees", "mailer")
	says(t, env, file, "consumer all orders (EUR) = total", "billing 5.00 0 0 5.00 0 0 agrees")
	if out := execute(t, env, file...).out; strings.Contains(out, "mailer") {
		t.Errorf("the audit is of billing alone:\n%s", out)
	}
	exec1(t, pool, `UPDATE unilog.checkpoints SET began = 7 WHERE name = 'billing'; INSERT INTO order_totals VALUES ('billing', 9)`)
	says(t, env, file, "not audited: it began after 7 records")
	exec1(t, pool, `UPDATE unilog.checkpoints SET began = 0; DELETE FROM order_totals`)
	exec1(t, pool, `INSERT INTO order_totals VALUES ('billing', 1)`)
	fails(t, env, flags, 1, "billing disagrees with the database by -1")
	fails(t, env, file, 1, "billing disagrees with the database by -1 EUR")
	var figures struct {
		Agree     bool
		Consumers []struct{ Consumer, Difference string }
	}
	r := execute(t, env, append(file, "--json")...)
	if err := json.Unmarshal([]byte(r.out), &figures); err != nil || r.code != 1 || figures.Agree || len(figures.Consumers) != 1 {
		t.Errorf("as JSON: %v, %+v", err, r)
	}
	exec1(t, pool, `UPDATE order_totals SET total = 0`)
	fails(t, env, append(file, "billing", "reports"), 1, "reports has not registered")
	fails(t, env, append(file, "reports", "billing", "stock"), 1, "reports and stock have not registered: are they running? See")
	exec1(t, pool, `DELETE FROM unilog.checkpoints; DELETE FROM order_totals`)
	fails(t, env, append(flags, "billing", "stock"), 1, "billing and stock have not registered")
	fails(t, env, flags, 2, "no consumer has registered yet")
	fails(t, env, []string{"verify"}, 2, "there is no audit: give --audit FILE, or --truth, --totals and --amount")
	fails(t, env, []string{"verify", "--truth=SELECT 1"}, 2, "the audit has no totals")
	fails(t, env, append(file, "--truth=SELECT 1"), 2, "give the one or the others")
	fails(t, env, []string{"verify", "--audit=/nowhere"}, 2, "--audit: open /nowhere")
	if err := os.WriteFile(audit, []byte("-- truth:\nSELECT 1\n-- total:\nSELECT 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, env, file, 2, `there is no "-- total:"`)
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: await.Patience}
	var resp *http.Response
	await.That(t, "an answer", func() (instead string) { // which a request that is slow to arrive may not get
		var err error
		if resp, err = client.Get(url); err != nil {
			return err.Error()
		}
		return ""
	})
	defer resp.Body.Close()
	// Of a page its head, and of a stream the hello.
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<11))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	for name, c := range map[string]struct {
		flags []string
		audit bool
	}{
		"without an audit": {nil, false},
		"with one": {[]string{
			"--truth=SELECT sum(amount) FROM orders", "--totals=SELECT consumer, total FROM order_totals", "--amount=(data ->> 'amount')::numeric",
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			port := freeport.Next()
			start(t, env, append([]string{"dashboard", fmt.Sprintf("--port=%d", port)}, c.flags...)...)("dashboard listens")
			url := fmt.Sprintf("http://127.0.0.1:%d/", port)
			page := get(t, url)
			if !strings.Contains(page, "<title>unilog, live</title>") || strings.Contains(page, "Skip to the audit") != c.audit {
				t.Errorf("the page is\n%s", page)
			}
			if hello := get(t, url+"events"); !strings.Contains(hello, `"control":false`) || strings.Contains(hello, "token") {
				t.Errorf("the stream begins with\n%s", hello)
			}
			resp, err := http.Post(url+"actions", "application/json", strings.NewReader(`{"action":"kill"}`))
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("an action is answered %d", resp.StatusCode)
			}
		})
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
}

// A streamer that runs follows the log to Postgres and back.
func TestLogSwitch(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	start(t, env, "streamer")("leading")
	published := func(n int) {
		t.Helper()
		exec1(t, pool, order)
		await.True(t, "the record to be published", func() bool {
			var offset int
			if err := pool.QueryRow(t.Context(), `SELECT published_offset FROM unilog.partitions`).Scan(&offset); err != nil {
				t.Fatal(err)
			}
			return offset == n
		})
	}
	published(1)
	for i, c := range []struct{ flag, says string }{
		{"--to=postgres:", "done: make it final with `unilog log switch --finish`"},
		{"--undo", "streamers and consumers go on in the new place"},
		{"--to=postgres:", "moved"},
		{"--finish", "the log stays where it is"},
	} {
		says(t, env, []string{"log", "switch", c.flag}, c.says)
		published(i + 2)
	}
	fails(t, env, []string{"log", "switch", "--undo"}, 1, "no move to undo")
	fails(t, env, []string{"log", "switch", "--to=postgres:"}, 1, "the log is there already: give --to another URL")
	says(t, env, []string{"log", "switch", "--to=" + strings.TrimPrefix(env[1], "REDIS_URL=")}, "moved")
	fails(t, env, []string{"log", "switch", "--to=kafka://127.0.0.1:1/t"}, 1, "the move before is not finished: make it final with --finish, or move back with --undo, first")
	fails(t, env, []string{"log", "switch", "--to=postgres:", "--keep-records=-1"}, 2, "--keep-records is -1: it must be 0 or more")
	fails(t, env, []string{"log", "switch", "--to=redis://:secret@h"}, 1, "write it as ${NAME}")
}

func TestDoctorProbeAndVersion(t *testing.T) {
	t.Parallel()
	_, env := database(t) // on a server that syncs nothing
	r := execute(t, env, "doctor")
	if r.code != 1 || !strings.Contains(r.out, "unsafe  fsync is off: ") || !strings.Contains(r.out, "ok      the tables are up to date") || strings.Contains(r.out+r.err, "ride") {
		t.Errorf("doctor: %+v", r)
	}
	_, none := empty(t)
	if r := execute(t, none, "doctor"); r.code != 1 || !strings.Contains(r.out, "run `unilog migrate`") {
		t.Errorf("doctor without tables: %+v", r)
	}
	admin := fmt.Sprintf("ADMIN_LISTEN=127.0.0.1:%d", freeport.Next())
	fails(t, []string{admin}, []string{"probe"}, 1, "not alive")
	fails(t, nil, []string{"probe"}, 1, "ADMIN_LISTEN is not set")
	start(t, append(env, admin), "streamer")("admin listens")
	says(t, []string{admin}, []string{"probe", "--timeout=" + await.Patience.String()})
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if r := execute(t, nil, args...); r.code != 0 || !regexp.MustCompile(`^unilog .*go1\.\d+`).MatchString(r.out) {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// No help and no refusal speaks of rides.
func TestItKnowsNoRides(t *testing.T) {
	t.Parallel()
	parser, err := program.Parser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(false) {
		args := strings.Fields(strings.Split(leaf.FullPath(), " <")[0])[1:]
		help := execute(t, nil, append(args, "--help")...)
		if help.code != 0 || regexp.MustCompile(`(?i:\brides?\b|rocket)|\$\{[a-z]`).MatchString(help.out) {
			t.Errorf("%v says\n%s%s", args, help.out, help.err)
		}
	}
	fails(t, nil, []string{"status"}, 1, "unilog: DATABASE_URL is not set: set it\n")
	fails(t, []string{"DATABASE_URL=postgres:///x?host=/nowhere"}, []string{"status"}, 1, "no answer from Postgres; check DATABASE_URL")
	fails(t, nil, []string{"streamr"}, 2, `did you mean "streamer"`)
	fails(t, nil, []string{"migrate", "--service=x-y"}, 2, "--service is \"x-y\": it must be of a to z")
}

// Each role may do what its process needs, in a database whose roles are called after
// the service.
func TestRolesOfAService(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	super, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, super)
	own := func(user string) []string {
		url := server.URL()
		if user != "" {
			config := super.Config().ConnConfig
			url = fmt.Sprintf("host=%s port=%d user=%s dbname=%s", config.Host, config.Port, user, config.Database)
		}
		return []string{"DATABASE_URL=" + url, "REDIS_URL=" + testenv.PatientRedis(testenv.SharedRedis(t)), "STREAM_NAME=" + testenv.StreamName(t)}
	}
	for range 2 {
		says(t, own(""), []string{"migrate", "--roles", "--service=orders"}, "the roles are up to date")
	}
	exec1(t, super, `CREATE USER w IN ROLE orders_writer; CREATE USER s IN ROLE orders_streamer; CREATE USER c IN ROLE orders_consumer; CREATE USER r IN ROLE orders_reader`)
	env := own("s")
	start(t, env, "streamer")("leading")
	as := func(user, sql string) error {
		config := super.Config()
		config.ConnConfig.User = user
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		_, err = pool.Exec(t.Context(), sql)
		return err
	}
	if err := as("w", `INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'order', '{}')`); err != nil {
		t.Error(err)
	}
	await.True(t, "the record to be published", func() bool {
		r := execute(t, own("r"), "status")
		return strings.Contains(r.out, "published  1\n")
	})
	// Those of another log in the database are apart.
	says(t, own(""), []string{"migrate", "--roles", "--service=mails", "--schema=mails"}, "the roles are up to date")
	for _, refused := range [][2]string{{"w", `SELECT * FROM unilog.records`}, {"w", `INSERT INTO mails.staged_records (action, object, data) VALUES ('create', 'mail', '{}')`}, {"r", `DELETE FROM unilog.dead_letters`}, {"c", `DELETE FROM unilog.checkpoints`}, {"c", `INSERT INTO unilog.interventions (what, consumer) VALUES ('seek', 'c')`}, {"s", `DELETE FROM unilog.checkpoints`}} {
		if err := as(refused[0], refused[1]); err == nil {
			t.Errorf("%s may %s", refused[0], refused[1])
		}
	}
	// A missing right is said in one line, with what gives it.
	exec1(t, super, `CREATE USER nobody`)
	for user, says := range map[string]string{"nobody": "permission denied for schema unilog", "w": "permission denied for table"} {
		fails(t, own(user), []string{"status"}, 1, says)
		fails(t, own(user), []string{"status"}, 1, "grant the user of DATABASE_URL the role that this needs, of those that `unilog migrate --roles` makes")
	}
	// The consumers' side alone has its roles, too.
	exec1(t, super, `CREATE DATABASE mail`)
	mail := own("")
	mail[0] = strings.Replace(mail[0], "/"+super.Config().ConnConfig.Database, "/mail", 1)
	says(t, mail, []string{"migrate", "--roles", "--side=consumers", "--service=mail"}, "the roles are up to date")
	var roles string
	err = super.QueryRow(t.Context(), `SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'mail\_%'`).Scan(&roles)
	if err != nil || roles != "mail_consumer mail_reader" {
		t.Errorf("the roles are %q, %v", roles, err)
	}
}
