package main

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// managed is a whole system on servers as somebody else hosts them: where each process
// connects, and two who may do everything, for the faults.
type managed struct {
	*testing.T
	super  *pgxpool.Pool
	admin  rueidis.Client
	stream string
	// urls are DATABASE_URLs by process: owner, api, streamer, consumer, reader.
	urls map[string]string
	// logs are REDIS_URLs by process: streamer, or all others that read the log.
	logs map[string]string
	// idles makes the system rest until idle connections have been ended.
	idles bool
	// doctor is what the streamer's doctor has to find, besides what the tests' servers
	// do not sync.
	doctor []string

	booked int
	port   int
	faults []string
	said   map[string]string
	// running are the processes that go on.
	running map[string]*process
}

// conditions are those under which everything has to work, each with the same faults.
var conditions = map[string]func(*managed){
	"the owner of one database, who may make no roles and end no sessions": ownerOfOneDatabase,
	"roles made by hand, without pg_read_all_stats":                        rolesByHand,
	"timeouts of a second":                                        shortTimeouts,
	"serializable by default":                                     serializable,
	"a Turkish collation of ICU":                                  turkish,
	"a small server with all of these":                            smallServer,
	"a pooler in transaction mode":                                behindPooler,
	"Redis by TLS, for a prefix of keys, without CONFIG and INFO": guardedRedis,
}

// TestManagedServers runs the api, streamers and consumers under each condition, with the
// same faults, and sees that in the end all agree exactly. With -v it prints what each
// process said.
func TestManagedServers(t *testing.T) {
	t.Parallel()
	for name, prepare := range conditions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := &managed{T: t, urls: map[string]string{}, said: map[string]string{}, running: map[string]*process{}}
			t.Cleanup(func() { // those that a failure has left have been killed by now
				for process, p := range m.running {
					m.said[process] += p.rest()
				}
				m.print(name)
			})
			prepare(m)
			m.run()
		})
	}
}

func (m *managed) env(process string) []string {
	log := process
	if log != "streamer" {
		log = "others"
	}
	return []string{"DATABASE_URL=" + m.urls[process], "REDIS_URL=" + m.logs[log], "STREAM_NAME=" + m.stream}
}

// do runs a command that has to succeed, or to find no more than the doctor may.
func (m *managed) do(process string, args ...string) string {
	m.Helper()
	r := execute(m.T, m.env(process), args...)
	if r.code != 0 && args[0] != "doctor" {
		m.Fatalf("%v as %s: %+v", args, process, r)
	}
	m.said[args[0]+" as "+process] = r.out + r.err
	return r.out
}

// run starts everything, and breaks it in each way.
func (m *managed) run() {
	m.Helper()
	m.examine()
	streamer := func(name, seed string) *process {
		return m.start(name, "streamer", "streamer", "--simulate-failures=0.3", "--seed="+seed)
	}
	streamer("leader", "1").says("leading")
	streamer("streamer", "2")
	m.faults = append(m.faults, "streamers fail after posting, and send again", "a consumer fails before saving")
	// Of these, what C, English and Turkish put in different orders.
	m.start("consumer ılık", "consumer", "consumer", "ılık", "--simulate-failures=0.3", "--seed=1")
	m.start("consumer Istanbul, killed", "consumer", "consumer", "Istanbul")
	m.start("consumer Istanbul", "consumer", "consumer", "Istanbul")
	m.running["api"], m.port = startAPI(m.T, m.env("api"))
	m.book()

	m.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	m.faults = append(m.faults, "all sessions ended")
	m.book()
	m.kill("leader")
	m.faults = append(m.faults, "the leader killed")
	m.book()
	m.kill("consumer Istanbul, killed")
	m.faults = append(m.faults, "a consumer killed")
	m.book()
	if err := m.admin.Do(m.Context(), m.admin.B().Del().Key(m.stream).Build()).Error(); err != nil {
		m.Fatal(err)
	}
	m.faults = append(m.faults, "the log emptied")
	m.book()
	if m.idles {
		m.await("the idle sessions of the api to be ended", `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'api' AND datname = current_database()`, 0)
		m.faults = append(m.faults, "idle sessions ended by the server")
		m.book()
	}
	m.agree()
	for name, p := range m.running {
		m.said[name] = p.stop()
		delete(m.running, name)
	}
	if !strings.Contains(m.said["leader"]+m.said["streamer"], "double send refused") || !strings.Contains(m.said["consumer ılık"], "simulated crash before saving") {
		m.Errorf("no failure was simulated: %v", m.said)
	}
}

func (m *managed) start(name, user string, args ...string) *process {
	m.Helper()
	m.running[name] = start(m.T, m.env(user), args...)
	return m.running[name]
}

func (m *managed) kill(name string) {
	m.Helper()
	m.said[name] = m.running[name].kill(syscall.SIGKILL)
	delete(m.running, name)
}

// examine sees what the doctor says before anything runs.
func (m *managed) examine() {
	m.Helper()
	m.do("streamer", "doctor")
	var found []string
	for line := range strings.Lines(m.said["doctor as streamer"]) {
		// The tests' servers sync nothing, and the last line counts.
		if strings.HasPrefix(line, "ok") || strings.Contains(line, " is off: ") || strings.Contains(line, "findings are unsafe") {
			continue
		}
		found = append(found, strings.TrimSpace(line))
	}
	said := strings.Join(found, "\n")
	if slices.ContainsFunc(m.doctor, func(words string) bool { return !strings.Contains(said, words) }) || len(found) != len(m.doctor) {
		m.Errorf("the doctor says\n%s\nwant %q", said, m.doctor)
	}
}

// book books ten rides, each once, however often the api has to be asked, and waits until
// all have been applied.
func (m *managed) book() {
	m.Helper()
	for range 10 {
		m.booked++
		m.post()
	}
	m.await("both consumers to apply all", `SELECT CASE count(*) WHEN 2 THEN min("offset") ELSE 0 END FROM unilog.checkpoints`, m.booked)
}

func (m *managed) post() {
	m.Helper()
	await.That(m.T, "a ride to be booked", func() string {
		form := strings.NewReader(url.Values{"distance": {fmt.Sprintf("%d.25", m.booked)}}.Encode())
		r, err := http.NewRequestWithContext(m.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/rides", m.port), form)
		if err != nil {
			m.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if m.booked > 10 { // without a key, what becomes of a fault is not known
			r.Header.Set("Idempotency-Key", fmt.Sprintf("I-%d", m.booked))
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		late := answer.StatusCode == http.StatusConflict // an earlier attempt goes on
		if answer.StatusCode < http.StatusInternalServerError && answer.StatusCode != http.StatusCreated && !late {
			m.Fatalf("the api answers %s", answer.Status)
		}
		if answer.StatusCode != http.StatusCreated {
			return answer.Status
		}
		return ""
	})
}

func (m *managed) exec(sql string) {
	m.Helper()
	exec1(m.T, m.super, sql)
}

func (m *managed) await(what, sql string, want int) {
	m.Helper()
	await.That(m.T, what, func() string {
		var n int
		if err := m.super.QueryRow(m.Context(), sql).Scan(&n); err != nil {
			m.Fatal(err)
		}
		if n != want {
			return fmt.Sprintf("%d, not %d", n, want)
		}
		return ""
	})
}

// agree sees that each ride that was confirmed is there once, in the log, too, and in what
// both consumers have added up.
func (m *managed) agree() {
	m.Helper()
	m.await("the log to have all again", `SELECT published_offset FROM unilog.partitions`, m.booked)
	var rides, records int
	if err := m.super.QueryRow(m.Context(), `SELECT (SELECT count(*) FROM rides), (SELECT count(*) FROM unilog.records)`).Scan(&rides, &records); err != nil {
		m.Fatal(err)
	}
	await.That(m.T, "the stream to have all again", func() string {
		n, err := m.admin.Do(m.Context(), m.admin.B().Xlen().Key(m.stream).Build()).AsInt64()
		if err != nil || n != int64(m.booked) {
			return fmt.Sprintf("it has %d of %d, and the error is %v", n, m.booked, err)
		}
		return ""
	})
	if rides != m.booked || records != m.booked {
		m.Errorf("%d were booked: there are %d rides and %d records", m.booked, rides, records)
	}
	m.do("reader", "verify", "ılık", "Istanbul", untilCaughtUp)
	await.That(m.T, "status to find nothing", func() string { // what has just failed it says for a moment
		for line := range strings.Lines(m.do("reader", "status")) {
			if strings.HasPrefix(line, "- ") && !strings.Contains(line, " is off: ") && !strings.Contains(line, "nothing is stuck") {
				return line
			}
		}
		return ""
	})
}

// varying is what differs from one line of a process to the next of its kind.
var varying = regexp.MustCompile(`^\d\d:\d\d:\d\d\.\d+ |=\S*\d\S*|session \d+`)

// print shows what was done and said, each sort of line once.
func (m *managed) print(name string) {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n  faults: %s\n  %d rides booked, each once in the log and in both totals\n", name, strings.Join(m.faults, "; "), m.booked)
	names := []string{}
	for process := range m.said {
		names = append(names, process)
	}
	slices.Sort(names)
	for _, process := range names {
		count, order := map[string]int{}, []string{}
		for line := range strings.Lines(m.said[process]) {
			line = varying.ReplaceAllString(strings.TrimSpace(line), "")
			if line == "" || strings.HasPrefix(line, "ok ") || strings.Contains(line, "DBG") {
				continue
			}
			if count[line]++; count[line] == 1 {
				order = append(order, line)
			}
		}
		fmt.Fprintf(&out, "  %s:\n", process)
		for _, line := range order {
			fmt.Fprintf(&out, "    %d× %s\n", count[line], line)
		}
	}
	m.Log(out.String())
}

// TestManagedServersRefused are those that nothing can run on, each with the one line
// that a process says.
func TestManagedServersRefused(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t), "ALLOW_UNSAFE=false")
	setAll(t, pool, `default_transaction_read_only = on`)
	if r := execute(t, env, "doctor"); r.code != 1 || !strings.Contains(r.out, "unsafe  default_transaction_read_only is on for role postgres") {
		t.Errorf("the doctor says %+v", r)
	}
	if r := execute(t, env, "status"); !strings.Contains(r.out+r.err, "this database takes no writes, and need not know what goes on: connect to the primary") {
		t.Errorf("status says %+v", r)
	}
}
