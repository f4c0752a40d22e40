package endtoend_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
)

// inLanguages runs a test with the consumer in each language.
func inLanguages(t *testing.T, test func(t *testing.T, program []string)) {
	l := testenv.NeedLanguages(t)
	for language, file := range map[string]string{"Python": "consumer.py", "Node": "consumer.mjs"} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			test(t, program(t, l, file))
		})
	}
}

// program is what runs a file of the examples.
func program(t *testing.T, l testenv.Languages, file string) []string {
	t.Helper()
	if filepath.Ext(file) == ".py" {
		return []string{l.Python, filepath.Join("..", "examples", "python", file)}
	}
	// A module finds others beside its own file.
	source, err := os.ReadFile(filepath.Join("..", "examples", "node", file))
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, file), source, 0o600))
	must(t, os.Symlink(l.Modules, filepath.Join(dir, "node_modules")))
	return []string{l.Node, filepath.Join(dir, file)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shop is a database with orders, whose log is in a Redis of the test's own, and another
// database for bills.
type shop struct {
	*world.World
	t     *testing.T
	own   *pgxpool.Pool
	redis string
	n     int // orders
}

func migrateShop(ctx context.Context, db *pgxpool.Pool) error {
	if err := migration.Up(ctx, db, migration.Log, migration.Consumer); err != nil {
		return err
	}
	_, err := db.Exec(ctx, `CREATE TABLE orders (id text PRIMARY KEY, cents bigint NOT NULL)`)
	return err
}

func newShop(t *testing.T) *shop {
	redis := testenv.Redis(t, "--appendfsync", "no").URL()
	s := &shop{t: t, redis: redis, own: testenv.Database(t, "shop", migrateShop)}
	s.World = world.SetupOn(t, testenv.Database(t, "shop", migrateShop), redis)
	s.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`) // the databases are copies of one
	return s
}

// place places orders and changes each one afterwards, so that what is billed depends on
// the order of the records of a key.
func (s *shop) place(n int) {
	s.Helper()
	s.create(n)
	s.change(n)
}

func (s *shop) create(n int) {
	s.Helper()
	s.n += n
	s.write(n, "create", 1, `INSERT INTO orders (id, cents) SELECT * FROM unnest($1::text[], $2::bigint[])`)
}

// change changes the last n orders, the last one first.
func (s *shop) change(n int) {
	s.Helper()
	s.write(n, "change", 2, `UPDATE orders SET cents = u.cents FROM unnest($1::text[], $2::bigint[]) AS u (id, cents) WHERE orders.id = u.id`)
}

func (s *shop) write(n int, action string, factor int, sql string) {
	s.Helper()
	var records []unilog.Record
	var ids []string
	var cents []int
	for i := s.n - n; i < s.n; i++ {
		i := i
		if action == "change" {
			i = 2*s.n - n - 1 - i
		}
		ids, cents = append(ids, fmt.Sprint("o", i)), append(cents, factor*(100+i))
		data := json.RawMessage(fmt.Sprintf(`{"cents":%d}`, factor*(100+i)))
		records = append(records, unilog.Record{Action: action, Object: "order", Key: fmt.Sprint("o", i), Data: data})
	}
	// And what consumers pass over, which is no text.
	records = append(records, unilog.Record{Action: "scan", Object: "receipt", Body: []byte{0xff, 0}, ContentType: "image/x-bits"})
	s.Must(pgx.BeginFunc(s.Ctx, s.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(s.Ctx, sql, ids, cents); err != nil {
			return err
		}
		return unilog.Stage(s.Ctx, tx, records...)
	}))
}

const sqlSum = `SELECT count(*) || ' of ' || coalesce(sum(cents), 0) FROM `

// billed waits until the bills in a database are the orders, each once.
func (s *shop) billed(db *pgxpool.Pool, what string, alive ...*process) {
	s.Helper()
	want := world.Query[string](s.World, sqlSum+`orders`)
	await.That(s.t, "the bills "+what, func() string {
		for _, p := range alive {
			p.mustRun(s.t)
		}
		var got string
		err := db.QueryRow(s.Ctx, sqlSum+`bills`).Scan(&got)
		if err == nil && got == want {
			return ""
		}
		said := ""
		for _, p := range alive {
			said += p.said()
		}
		return fmt.Sprint(got, ", want ", want, ", ", err, ", and it said: ", said)
	})
	s.t.Log(what+": bills are ", want, " cents, as the orders")
}

// process is a consumer in another language.
type process struct {
	cmd  *exec.Cmd
	out  string // the file with what it says
	done chan error
}

// said is what the process has said so far.
func (p *process) said() string {
	text, err := os.ReadFile(p.out)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// starts starts a program, and kills it at the end of the test.
func (s *shop) starts(program []string, env ...string) *process {
	s.Helper()
	p := &process{cmd: exec.Command(program[0], program[1:]...), done: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "STREAM_NAME="+s.Stream, "LOG_URL="+s.redis, "PGAPPNAME=consumer")
	p.cmd.Env = append(p.cmd.Env, env...)
	out, err := os.CreateTemp(s.t.TempDir(), "")
	s.Must(err)
	p.out, p.cmd.Stdout, p.cmd.Stderr = out.Name(), out, out
	s.Must(p.cmd.Start())
	s.Must(out.Close())
	go func() { p.done <- p.cmd.Wait() }()
	s.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.done <- <-p.done // for whoever asks again
}

// ended returns how the process has ended, or nil.
func (p *process) ended() error {
	select {
	case err := <-p.done:
		p.done <- err
		return cmp.Or(err, errors.New("exit status 0"))
	default:
		return nil
	}
}

func (p *process) mustRun(t *testing.T) {
	t.Helper()
	if err := p.ended(); err != nil {
		t.Fatal("the consumer has ended: ", err, ": ", p.said())
	}
}

// tryingAgain is what a program says of a server that does not answer for 10 s.
var tryingAgain = regexp.MustCompile(`(?m)^.*: trying again: Timeout.*\n`)

// halts waits until the process ends with one line, besides those about a server that was slow.
func (s *shop) halts(p *process, says string) {
	s.Helper()
	err := await.Receive(s.t, "the consumer to halt", p.done)
	p.done <- err
	var exit *exec.ExitError
	if text := tryingAgain.ReplaceAllString(p.said(), ""); !errors.As(err, &exit) || strings.Count(text, "\n") != 1 || !strings.Contains(text, says) {
		s.t.Fatalf("the consumer ended with %v, and said:\n%swant one line with %q", err, text, says)
	}
	s.t.Log(strings.TrimSpace(p.said()))
}

// url is that of a database, with a host's name, which Node cannot do without.
func url(db *pgxpool.Pool) string {
	return strings.Replace(db.Config().ConnString(), "@:", "@localhost:", 1)
}
