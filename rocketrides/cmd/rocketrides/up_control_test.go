package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog/internal/await"
)

// remote is a client of up's control socket.
type remote struct {
	*testing.T
	client *http.Client
	events chan *event // closed at the end
	socket string
}

type event struct {
	System *struct {
		Processes []struct {
			Name, State string
			Pid         int
			Restarts    int
		}
		Rate, Failures float64
		RedisCut       bool `json:"redis_cut"`
	}
	Log, Up *struct{ Source, Kind, Msg string }
}

func newRemote(t *testing.T, socket string) *remote {
	t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	r := &remote{t, &http.Client{Transport: &http.Transport{DialContext: dial}}, make(chan *event, 100_000), socket}
	answer, err := r.client.Get("http://up/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	go func() {
		defer close(r.events)
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			e := new(event)
			if err := json.Unmarshal(lines.Bytes(), e); err != nil {
				t.Errorf("no event: %s (%v)", lines.Bytes(), err)
			}
			r.events <- e
		}
	}()
	return r
}

// act asks for an action, which must be done.
func (r *remote) act(action, target string, value float64) {
	r.Helper()
	body := fmt.Sprintf(`{"action":%q,"target":%q,"value":%g}`, action, target, value)
	ask, err := http.NewRequestWithContext(await.Context(r, action), http.MethodPost, "http://up/actions", strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	ask.Header.Set("Content-Type", "application/json")
	answer, err := r.client.Do(ask)
	if err != nil {
		r.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		var text json.RawMessage
		_ = json.NewDecoder(answer.Body).Decode(&text)
		r.Fatalf("%s: status %d, %s", body, answer.StatusCode, text)
	}
}

func (r *remote) await(what string, is func(event) bool) {
	r.Helper()
	passed := 0
	await.That(r, what, func() string {
		for {
			select {
			case e := <-r.events:
				if e == nil {
					r.Fatalf("it ended before %s", what)
				}
				if is(*e) {
					return ""
				}
				passed++
			default:
				return fmt.Sprintf("%d other events", passed)
			}
		}
	})
}

func (r *remote) awaitLog(source, msg string) {
	r.Helper()
	r.await(source+" logs "+msg, func(e event) bool {
		return e.Log != nil && e.Log.Source == source && strings.HasPrefix(e.Log.Msg, msg)
	})
}

func (r *remote) awaitUp(source, kind string) {
	r.Helper()
	r.await(source+" is "+kind, func(e event) bool { return e.Up != nil && e.Up.Source == source && e.Up.Kind == kind })
}

// TestUpControl does to a whole system what can be done through its control
// socket, and sees what becomes of it in the processes and in the database.
func TestUpControl(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // root's Postgres has to pass
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	up := start(t, nil, "up", "--data-dir", data, fmt.Sprintf("--port=%d", freePort(t)),
		"--consumers=1", "--rate=50", "--no-failures", "--log-level=error")
	up.says("Rides:")
	r := newRemote(t, filepath.Join(data, "control", "socket"))
	r.await("all run", func(e event) bool { return e.System != nil && len(e.System.Processes) == 6 && e.System.Rate == 50 })
	r.awaitLog("consumer0", "consumed")

	env, err := godotenv.Read(filepath.Join(data, "env"))
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), env["DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	number := func(sql string) (n int64) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const (
		sqlHead       = `SELECT published_offset FROM unilog.partitions`
		sqlCheckpoint = `SELECT "offset" FROM unilog.checkpoints WHERE name = 'consumer0'`
	)

	r.act("add-consumer", "", 0)
	r.awaitLog("consumer1", "consumed")
	r.act("remove-consumer", "consumer1", 0)
	if n := number(`SELECT count(*) FROM unilog.checkpoints WHERE name = 'consumer1'`); n != 0 {
		t.Fatal("consumer1 is removed, and not forgotten")
	}

	r.act("rate", "", 200)
	up.says("simulator", "Booking 200 rides a second from now on")
	r.act("failures", "", 0.5)
	r.awaitLog("streamer", "simulated crash after publishing")
	r.awaitLog("consumer0", "simulated crash before saving")
	r.act("failures", "", 0)

	r.act("freeze", "consumer0", 0)
	published := func(more int64) {
		t.Helper()
		head := number(sqlHead) + more
		await.That(t, fmt.Sprintf("the head to be at %d", head), func() string {
			if is := number(sqlHead); is < head {
				return fmt.Sprint(is)
			}
			return ""
		})
	}
	await.That(t, "consumer0 to stand still", func() string {
		published(20) // a commit that was under way is done
		at := number(sqlCheckpoint)
		published(20)
		if n := number(sqlCheckpoint); n != at {
			return fmt.Sprintf("it is frozen at %d and goes on to %d", at, n)
		}
		return ""
	})
	r.act("thaw", "consumer0", 0)
	r.awaitUp("consumer0", "thawed")
	r.awaitLog("consumer0", "consumed")

	r.act("empty-redis", "", 0)
	r.awaitLog("streamer", "the log has lost records")
	r.act("cut-redis", "", 0)
	r.awaitLog("streamer", "streaming failed")
	r.act("mend-redis", "", 0)
	r.awaitUp("redis", "restored")
	r.awaitLog("consumer0", "consumed")

	for _, name := range []string{"api", "streamer", "consumer0", "postgres", "redis"} {
		r.act("kill", name, 0)
		r.awaitUp(name, "killed")
		r.awaitUp(name, "started")
		r.awaitLog("consumer0", "consumed")
	}
	if v := execute(t, []string{"DATABASE_URL=" + env["DATABASE_URL"]}, "verify", "consumer0"); v.code != 0 {
		t.Errorf("verify: %+v", v)
	}

	for _, name := range []string{"api", "streamer", "redis"} {
		r.act("freeze", name, 0)
	}
	booked := number(`SELECT count(*) FROM rides`)
	pool.Close()
	said := up.stop()
	for _, words := range []string{"rides booked:         ", "crashes:              0, and 5 kills on purpose", "other faults:         frozen 4×, redis emptied 1×, redis cut off 1×"} {
		if !strings.Contains(said, words) {
			t.Errorf("at its end, up does not say %q:\n%s", words, said)
		}
	}
	var counted int64
	_, rest, _ := strings.Cut(said, "rides booked: ")
	rest = strings.TrimSpace(rest)
	unknown := strings.HasPrefix(rest, "unknown: postgres did not say") // in the second that it has for that
	if _, err := fmt.Sscan(rest, &counted); !unknown && (err != nil || counted < booked) {
		t.Errorf("%d rides are booked, and it counts %d (%v)", booked, counted, err)
	}
	if strings.Contains(said, " INF ") {
		t.Errorf("at its end it says\n%s", said)
	}
}

// TestBooked counts the rides since the last one of an earlier run.
func TestBooked(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	exec1(t, pool, `INSERT INTO rides (distance) SELECT 1.5 FROM generate_series(1, 5)`)
	run := &upRun{upCmd: new(upCmd), lastRide: 2}
	run.database.DatabaseURL = pool.Config().ConnString()
	if n, err := run.booked(t.Context()); n != 3 || err != nil {
		t.Errorf("it counts %d, %v; want 3", n, err)
	}
}
