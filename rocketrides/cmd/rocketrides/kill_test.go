package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// site is a database and a stream, and two ways for processes to them.
type site struct {
	*testing.T
	pool             *pgxpool.Pool
	log              *redislog.Log
	straight, faulty []string // environments
	postgres, redis  *proxy.Proxy
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{T: t}
	s.pool, _ = database(t)
	databaseURL, redisURL, stream := s.pool.Config().ConnString(), testenv.SharedRedis(t), testenv.StreamName(t)
	env := func(databaseURL, redisURL string) []string {
		return []string{"DATABASE_URL=" + databaseURL, "REDIS_URL=" + redisURL, "STREAM_NAME=" + stream}
	}
	s.straight = env(databaseURL, redisURL)
	s.postgres, databaseURL = hole(t, databaseURL)
	s.redis, redisURL = hole(t, redisURL)
	s.faulty = env(databaseURL, redisURL)
	var err error
	if s.log, err = redislog.Open(t.Context(), patient(testenv.SharedRedis(t)), stream); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.log.Close)
	return s
}

// stage books rides as the api does.
func (s *site) stage(n int) {
	s.Helper()
	exec1(s.T, s.pool, fmt.Sprintf(`
		WITH ride AS (INSERT INTO rides (distance) SELECT 1.5 FROM generate_series(1, %d) RETURNING id, distance)
		INSERT INTO unilog.staged_records (action, object, data)
		SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`, n))
}

func (s *site) rides() int {
	s.Helper()
	return s.count(`SELECT count(*) FROM rides`)
}

// epoch is that of the latest leader.
func (s *site) epoch() int {
	s.Helper()
	return s.count(`SELECT epoch FROM unilog.partitions`)
}

func (s *site) count(sql string) (n int) {
	s.Helper()
	if err := s.pool.QueryRow(s.Context(), sql).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

// state says how far everything has come.
func (s *site) state() (state string) {
	s.Helper()
	head, err := s.log.Head(s.Context(), 0)
	if err != nil {
		s.Fatal(err)
	}
	err = s.pool.QueryRow(s.Context(), `
		SELECT format('rides %s, term %s, claimed %s, numbered %s, appended %s, recorded %s, applied %s, total %s.',
			(SELECT count(*) FROM rides), epoch, $1::bigint, next_offset - 1, $2::bigint, published_offset,
			coalesce((SELECT "offset" FROM unilog.checkpoints), 0), coalesce((SELECT total_distance FROM consumer_states), 0))
		FROM unilog.partitions`, head.Epoch, head.Offset).Scan(&state)
	if err != nil {
		s.Fatal(err)
	}
	return state
}

// catchUp waits until consumer c has caught up.
func (s *site) catchUp() {
	s.Helper()
	await.That(s.T, "consumer c to have caught up", func() string {
		balances, err := rides.Audit.Check(s.Context(), s.pool)
		if err != nil {
			s.Fatal(err)
		}
		for _, b := range balances {
			if !b.Agrees {
				s.Fatalf("the audit does not hold: %+v", b)
			}
		}
		if len(balances) != 1 || balances[0].Lag > 0 || balances[0].Backlog > 0 {
			return fmt.Sprintf("%+v", balances)
		}
		return ""
	})
}

// exact sees that so many rides are in the log, each once and without gaps, and
// soon in the total of consumer c.
func (s *site) exact(n int) {
	s.Helper()
	s.catchUp()
	var archive string
	err := s.pool.QueryRow(s.Context(), `
		SELECT format('%s rides, %s of them in %s records, offsets %s to %s',
			(SELECT count(*) FROM rides), count(DISTINCT rides.id), count(*), min("offset"), max("offset"))
		FROM unilog.records LEFT JOIN rides ON rides.id = (data ->> 'id')::bigint`).Scan(&archive)
	if want := fmt.Sprintf("%d rides, %d of them in %d records, offsets 1 to %d", n, n, n, n); err != nil || archive != want {
		s.Errorf("there are %s (%v), want %s", archive, err, want)
	}
	var offset int64
	if head, err := s.log.Head(s.Context(), 0); err != nil || head.Offset != int64(n) {
		s.Errorf("the log ends at %d, %v; want %d", head.Offset, err, n)
	}
	for next := (unilog.Cursor{}); next.Offset < int64(n); next.Offset = offset {
		entries, err := s.log.Read(s.Context(), 0, next, 1000, 0)
		if err != nil || len(entries) == 0 {
			s.Fatalf("the log after %d: %d entries, %v", next.Offset, len(entries), err)
		}
		for _, e := range entries {
			if offset > 0 && e.Offset != offset+1 {
				s.Fatalf("in the log, offset %d follows %d", e.Offset, offset)
			}
			offset = e.Offset
		}
	}
}

// kill ends the process with a signal, however it ends, and returns what it had
// still to say.
func (p *process) kill(sig syscall.Signal) string {
	p.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.Error(err)
	}
	said := p.rest()
	_ = p.cmd.Wait()
	return said
}

// executing matches each execution of a statement that contains a text, which
// travels by its name alone once it is prepared.
func executing(text string) proxy.Match {
	var name []byte
	return func(chunk []byte) bool {
		if before, _, found := bytes.Cut(chunk, []byte(text)); found {
			name = before[bytes.LastIndex(before, []byte("stmtcache_")):]
			name, _, _ = bytes.Cut(bytes.Clone(name), []byte{0})
			return false
		}
		return name != nil && bytes.Contains(chunk, name)
	}
}

// script matches the call of one of the log's scripts.
func script(t *testing.T, name string) proxy.Match {
	t.Helper()
	lua, err := os.ReadFile("../../../redislog/" + name)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum(lua)
	return proxy.Containing(hex.EncodeToString(sum[:]))
}

// recorded matches the answer to an UPDATE after which the database knows that all
// is published.
func (s *site) recorded(chunk []byte) bool {
	if !bytes.Contains(chunk, []byte("UPDATE 1\x00")) {
		return false
	}
	var all bool
	if err := s.pool.QueryRow(context.Background(), `SELECT published_offset = 5 FROM unilog.partitions`).Scan(&all); err != nil {
		s.Error(err)
	}
	return all
}

// TestKilledAtEachStep kills a process with -9 while a message of it, or the
// answer to one, is on its way, and lost. So all that is done by then is what
// its servers have done.
func TestKilledAtEachStep(t *testing.T) {
	t.Parallel()
	const (
		question = proxy.ToServer // it is lost
		answer   = proxy.ToClient // it is lost, and what it answers is done
	)
	holds := func(text string) proxy.Match { return proxy.Containing(text) }
	for _, c := range []struct {
		process, step string
		server        string
		lost          proxy.Direction
		at            proxy.Match
		then          string // matches the state, whose terms are more where the machine paused
	}{
		{"streamer", "begins its term", "Postgres", question, executing("SET epoch = greatest"), "term 0, claimed 0"},
		{"streamer", "began its term", "Postgres", answer, regexp.MustCompile(`(?s)[0-9a-f]{8}(-[0-9a-f]{4}){3}-.*UPDATE 1\x00`).Match, `term [1-9]\d*, claimed 0`},
		{"streamer", "claims the log", "Redis", question, script(t, "claim.lua"), `term [1-9]\d*, claimed 0`},
		{"streamer", "claimed the log", "Redis", answer, holds("appended\r\n$1\r\n0\r\n"), `claimed [1-9]\d*, numbered 0`},
		{"streamer", "numbers", "Postgres", question, executing("moved AS ("), `claimed [1-9]\d*, numbered 0`},
		{"streamer", "numbered", "Postgres", answer, holds(`"distance"`), "numbered 5, appended 0"},
		{"streamer", "appends", "Redis", question, script(t, "append.lua"), "numbered 5, appended 0"},
		{"streamer", "appended", "Redis", answer, holds("appended\r\n$1\r\n5\r\n"), "appended 5, recorded 0"},
		{"streamer", "records", "Postgres", question, executing("SET published_offset = u."), "appended 5, recorded 0"},
		{"streamer", "recorded", "Postgres", answer, nil, "appended 5, recorded 5"},
		{"consumer", "reads", "Redis", question, holds("XREAD"), `applied 0, total 0\.`},
		{"consumer", "has read", "Postgres", question, holds("begin\x00"), `applied 0, total 0\.`},
		{"consumer", "applies after its checkpoint", "Postgres", question, executing("INSERT INTO consumer_states"), `applied 0, total 0\.`},
		{"consumer", "commits", "Postgres", question, holds("commit\x00"), `applied 0, total 0\.`},
		{"consumer", "committed", "Postgres", answer, holds("COMMIT\x00"), `applied 5, total 7\.5\.`},
		{"api", "books", "Postgres", question, executing("INSERT INTO rides"), "rides 5,"},
		{"api", "booked", "Postgres", answer, holds("\x00\x00\x00\x08" + "\x00\x00\x00\x00\x00\x00\x03\xe9"), "rides 6,"},
	} {
		t.Run(c.process+" "+c.step, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.stage(5)
			exec1(t, s.pool, `SELECT setval('rides_id_seq', 1000)`) // the next one is like no other number
			if c.process == "consumer" {
				startHere(t, s.straight, "streamer")
			}
			port := freePort(t)
			args := map[string][]string{
				"streamer": {"streamer"}, "consumer": {"consumer", "c"}, "api": {"api", fmt.Sprintf("--port=%d", port)},
			}
			p := map[string]*proxy.Proxy{"Postgres": s.postgres, "Redis": s.redis}[c.server]
			if c.at == nil {
				c.at = s.recorded
			}
			sprung := p.BlackholeAt(c.lost, c.at, proxy.Both)
			victim := start(t, s.faulty, args[c.process]...)
			booked := make(chan error, 1)
			if c.process == "api" {
				victim.says("api listens")
				go func() { booked <- s.confirmed(port, sprung) }()
			}
			await.Receive(t, "the process to come so far", sprung, func() string { return victim.kill(syscall.SIGKILL) })
			if state := s.state(); !regexp.MustCompile(c.then).MatchString(state) {
				t.Errorf("when it is killed: %s Want %s", state, c.then)
			}
			victim.kill(syscall.SIGKILL)
			p.Blackhole(0)
			if c.process == "api" {
				if err := await.Receive(t, "the end of the client's request", booked); err == nil {
					t.Error("the client got an answer")
				}
				api := start(t, s.straight, args["api"]...)
				api.says("api listens")
				if err := s.confirmed(port, nil); err != nil {
					t.Error(err)
				}
				defer api.stop()
			}
			if c.process != "consumer" {
				startHere(t, s.straight, args["streamer"]...)
			}
			startHere(t, s.straight, args["consumer"]...)
			s.stage(1) // for those who had nothing left to do
			s.exact(s.rides())
		})
	}
}

// sleeps says whether the leader waits for a writer to wake it.
func (s *site) sleeps() (asleep bool) {
	err := s.pool.QueryRow(s.Context(), `
		SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
			WHERE d.datname = current_database() AND classid = 'unilog.staged_records'::regclass AND objid = 0 AND mode = 'ExclusiveLock' AND granted)`).Scan(&asleep)
	if err != nil {
		s.Fatal(err)
	}
	return asleep
}

// freezeAt stops the process before it gets an answer which matches, as a long
// pause of its machine does. The channel is closed then.
func (p *process) freezeAt(way *proxy.Proxy, match proxy.Match) <-chan struct{} {
	frozen := make(chan struct{})
	done := false
	way.CutAt(proxy.ToClient, func(chunk []byte) bool {
		if done || !match(chunk) {
			return false
		}
		done = true
		pid, status, err := p.cmd.Process.Pid, syscall.WaitStatus(0), p.cmd.Process.Signal(syscall.SIGSTOP)
		for err == nil && !status.Stopped() {
			if _, err = syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); errors.Is(err, syscall.EINTR) {
				err = nil
			}
		}
		if err != nil {
			p.Errorf("freeze a process: %v", err)
		}
		close(frozen)
		return false // nothing is cut
	})
	return frozen
}

// replaceFrozen freezes a leader at a late answer, lets another one lead, and says
// what the first one says when it goes on, unless that is as wanted: other answers
// may look like the late one.
func (s *site) replaceFrozen(late string, says []string) (zombie, heir *process, instead string) {
	s.Helper()
	s.stage(5)
	zombie = start(s.T, s.faulty, "streamer")
	await.That(s, "a leader that found no more", func() string {
		if state := s.state(); !strings.Contains(state, "recorded 5") || !s.sleeps() {
			return state
		}
		return ""
	})
	frozen := zombie.freezeAt(s.postgres, proxy.Containing(late))
	s.stage(5)
	await.Receive(s, "the streamer to be frozen", frozen)
	heir = start(s.T, s.straight, "streamer")
	heir.says("leading")
	s.stage(5)
	heir.says("published", "last=15")
	if err := zombie.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		s.Fatal(err)
	}
	said, found := zombie.readTo(func(line string) bool { return strings.Contains(line, says[0]) })
	if !found {
		s.Fatalf("it ended without %q:\n%s", says[0], said)
	}
	for _, words := range says {
		if !strings.Contains(said, words) {
			instead = said
		}
	}
	return zombie, heir, instead
}

// TestFrozenStreamerIsRefused lets a leader sleep until another one leads, and
// then go on where it was, with all that it holds in memory.
func TestFrozenStreamerIsRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		by   string
		late string // what the answer that it gets late contains
		says []string
	}{
		// It has numbered records and appends them.
		{"Redis", `"distance"`, []string{"streaming failed", "no longer leading", "epoch=1 newer=2"}},
		// It was woken, has let go of the lock that it slept with (one column, true),
		// and numbers records. Its sessions are over.
		{"Postgres", "\x00\x01" + "\x00\x00\x00\x01\x01", []string{"streaming failed"}},
	} {
		t.Run("by "+c.by, func(t *testing.T) {
			t.Parallel()
			var s *site
			var zombie, heir *process
			await.That(t, "a leader to be frozen at the answer that is meant", func() (instead string) {
				s = newSite(t)
				zombie, heir, instead = s.replaceFrozen(c.late, c.says)
				return instead
			})
			startHere(t, s.straight, "consumer", "c")
			s.stage(5)
			s.exact(20)
			heir.stop()
			zombie.says("leading") // anew
			s.stage(5)
			s.exact(25)
			zombie.stop()
		})
	}
}
