package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"gorm.io/gorm"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	testenv.Main(m)
}

// world is a database with its log, and what is open there.
type world struct {
	*testing.T
	db  *pgxpool.Pool
	log *pglog.Log
	url string
}

func setup(t *testing.T) *world {
	db := testenv.Database(t, "drivers", setUp)
	log, err := pglog.Open(t.Context(), db, unilog.DefaultSchema)
	must(t, err)
	t.Cleanup(log.Close)
	return &world{t, db, log, db.Config().ConnString()}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) open(name, url string) service {
	w.Helper()
	s, err := services[name](w.Context(), url)
	must(w.T, err)
	w.Cleanup(func() { must(w.T, s.close()) })
	return s
}

// number returns the one number that a query selects.
func (w *world) number(query string, args ...any) (n int64) {
	w.Helper()
	must(w.T, w.db.QueryRow(w.Context(), query, args...).Scan(&n))
	return n
}

func (w *world) publish() {
	w.Helper()
	s, err := streamer.New(streamer.Config{DB: w.db, Log: w.log})
	must(w.T, err)
	defer s.Close()
	_, err = s.RunOnce(w.Context())
	must(w.T, err)
}

func (w *world) consumer(name string, handler consumer.Handler, hooks consumer.Hooks) *consumer.Consumer {
	w.Helper()
	must(w.T, begin(w.Context(), w.db, name))
	c, err := consumer.New(consumer.Config{Name: name, DB: w.db, Archive: w.db, Log: w.log, Handler: handler, Hooks: hooks})
	must(w.T, err)
	return c
}

// TestDrivers sees of each library that orders and records are saved together or not at
// all, and that its consumer, which fails once just before the commit, applies each record
// once.
func TestDrivers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx := t.Context()
	opened := map[string]service{}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		s := w.open(name, w.url)
		opened[name] = s
		places := func(s service, id string, cents int64, want error, rows int64) {
			t.Helper()
			const sqlOrders, sqlStaged = `SELECT count(*) FROM orders`, `SELECT count(*) FROM unilog.staged_records`
			orders, staged := w.number(sqlOrders), w.number(sqlStaged)
			err := s.place(ctx, Order{id, cents})
			if !errors.Is(err, want) {
				t.Errorf("%s: placing %s says %v, want %v", name, id, err, want)
			}
			orders, staged = w.number(sqlOrders)-orders, w.number(sqlStaged)-staged
			if orders != rows || staged != rows {
				t.Errorf("%s: placing %s saved %d orders and staged %d records, want %d", name, id, orders, staged, rows)
			}
			t.Logf("%-4s places %s, error %v: %d orders saved, %d records staged", name, id, err, orders, staged)
		}
		places(s, name+`-"1\`, 995, nil, 1)
		places(s, name+`-2`, 100_001, errTooDear, 0)
		if name == "pq" {
			places(w.open(name, w.url+"&binary_parameters=yes"), name+`-"3\`, 995, nil, 1)
		}
	}
	w.publish()
	want := w.number(`SELECT sum(cents) FROM orders`)
	for _, name := range slices.Sorted(maps.Keys(opened)) {
		failures := 0
		c := w.consumer(name, opened[name].handler(), consumer.Hooks{BeforeCommit: func(context.Context, []unilog.Entry) error {
			if failures++; failures == 1 {
				return unilog.ErrSimulated
			}
			return nil
		}})
		const sqlRevenue = `SELECT cents FROM revenue WHERE consumer = $1`
		if n, err := c.RunOnce(ctx); n != 0 || !errors.Is(err, unilog.ErrSimulated) || w.number(sqlRevenue, name) != 0 {
			t.Errorf("%s: before it commits, it has applied %d (%v)", name, n, err)
		}
		n, err := c.RunOnce(ctx)
		again, err2 := c.RunOnce(ctx)
		must(t, errors.Join(err, err2))
		revenue := w.number(sqlRevenue, name)
		if n != len(services)+1 || again != 0 || revenue != want {
			t.Errorf("%s: it applied %d and then %d records, its revenue is %d, want %d", name, n, again, revenue, want)
		}
		t.Logf("%-4s applied %d records after a failure before the commit: its revenue is %d of %d", name, n, revenue, want)
	}
}

// TestNestedTransactionsOfGORM sees that a transaction within the consumer's is a savepoint.
func TestNestedTransactionsOfGORM(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.open("gorm", w.url).(*gormService)
	must(t, s.place(t.Context(), Order{"1", 995}))
	w.publish()
	c := w.consumer("gorm", consumer.SQL(func(ctx context.Context, tx *sql.Tx, _ []unilog.Entry) error {
		session := s.in(ctx, tx)
		err1 := session.Create(&Order{"2", 1}).Error
		err2 := session.Transaction(func(tx *gorm.DB) error {
			return errors.Join(tx.Create(&Order{"3", 1}).Error, tx.Create(&Order{"1", 1}).Error)
		})
		if err2 == nil {
			return errors.New("it saved an order twice")
		}
		var found []map[string]any
		err3 := session.Table("orders").Order("id").Find(&found).Error
		if len(found) != 2 || fmt.Sprint(found[1]) != "map[cents:1 id:2]" {
			return fmt.Errorf("the orders are %v", found)
		}
		return errors.Join(err1, err3)
	}), consumer.Hooks{})
	n, err := c.RunOnce(t.Context())
	if orders := w.number(`SELECT count(*) FROM orders`); err != nil || n != 1 || orders != 2 {
		t.Errorf("it applied %d (%v), and there are %d orders, want 2", n, err, orders)
	}
}

// TestStagingInAnotherEncoding sees that lib/pq, too, stages nothing that Postgres would change.
func TestStagingInAnotherEncoding(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.open("pq", w.url).(*pqService)
	for _, encoding := range []string{"LATIN1", "GBK", "SJIS"} {
		tx, err := s.db.BeginTx(t.Context(), nil)
		must(t, err)
		_, err = tx.Exec(`SET LOCAL client_encoding = ` + encoding)
		must(t, err)
		if err := unilog.StageSQL(t.Context(), tx, Order{`"ü\`, 1}.record()); err == nil {
			t.Errorf("in %s it is staged", encoding)
		}
		must(t, tx.Rollback())
	}
}

// TestRun runs the whole service.
func TestRun(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, w.url, "sqlc") }()
	await.True(t, "a revenue", func() bool {
		return w.number(`SELECT coalesce(sum(cents), 0) FROM revenue`) > 0
	})
	stop()
	must(t, await.Receive(t, "the end", ended))
}

// TestLines sees that the table of docs/drivers.md says how many lines the services have.
func TestLines(t *testing.T) {
	lines := func(file string) (n int) {
		text, err := os.ReadFile(file)
		must(t, err)
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				n++
			}
		}
		return n
	}
	doc, err := os.ReadFile("../../docs/drivers.md")
	must(t, err)
	shared := lines("main.go")
	for _, name := range slices.Sorted(maps.Keys(services)) {
		own := lines(name + ".go")
		if row := fmt.Sprintf("](../examples/drivers/%s.go) | %d | %d |", name, own, own+shared); !strings.Contains(string(doc), row) {
			t.Errorf("docs/drivers.md has no row with %q", row)
		}
	}
}
