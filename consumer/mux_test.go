package consumer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// order is what typed functions get.
type order struct {
	Cents int   `json:"cents"`
	Line  *line `json:"line"`
}

type line struct {
	Count int `json:"count"`
}

// tx stands for a transaction of whatever kind.
type tx struct{ calls []string }

func (tx *tx) add(format string, args ...any) error {
	tx.calls = append(tx.calls, fmt.Sprintf(format, args...))
	return nil
}

func kind(object, action, data string) unilog.Entry {
	return unilog.Entry{Record: unilog.Record{Object: object, Action: action, Data: []byte(data)}}
}

func newMux() *consumer.Mux[*tx] {
	mux := new(consumer.Mux[*tx])
	consumer.On(mux, "order", "create", func(_ context.Context, tx *tx, o order, e unilog.Entry) error {
		return tx.add("%d cents of %s", o.Cents, e.Key)
	})
	consumer.On(mux, "order", "cancel", func(_ context.Context, tx *tx, reason *string, _ unilog.Entry) error {
		return tx.add("cancelled: %s", *reason)
	})
	mux.On("image", "", func(_ context.Context, tx *tx, e unilog.Entry) error { return tx.add("%s of %s", e.Action, e.Data) })
	mux.On("image", "delete", func(_ context.Context, tx *tx, e unilog.Entry) error { return tx.add("deleted") })
	return mux
}

func TestMux(t *testing.T) {
	t.Parallel()
	mux, given := newMux(), new(tx)
	created := kind("order", "create", `{"cents": 5, "more": 1}`)
	created.Key = "o1"
	entries := []unilog.Entry{
		created, kind("order", "cancel", `"late"`), kind("stranger", "create", `1`),
		kind("image", "draw", `1`), kind("image", "delete", `2`),
	}
	if err := mux.Handle(t.Context(), given, entries); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(given.calls, "; "); got != "5 cents of o1; cancelled: late; draw of 1; deleted" {
		t.Errorf("the functions were called: %s", got)
	}
	body := kind("order", "create", "")
	body.Data, body.ContentType = nil, "a/b"
	for want, e := range map[string]unilog.Entry{
		"order/pay: no function is registered for this action":    kind("order", "pay", `{}`),
		"unilog/later: no function is registered for this action": kind(unilog.ReservedObject, "later", `{}`),
		"order/create: decode its data: … .cents ":                kind("order", "create", `{"cents": "5"}`),
		"order/create: decode its data: … .line.count ":           kind("order", "create", `{"line": {"count": 1.5}}`),
		"order/create: its payload is a/b, … .On":                 body,
		"order/create: decode its data: … array ":                 kind("order", "create", `[]`),
	} {
		given := new(tx)
		err := mux.Handle(t.Context(), given, []unilog.Entry{created, e, created})
		begins, has, _ := strings.Cut(want, "…")
		if got := fmt.Sprint(err); !strings.HasPrefix(got, begins) || !strings.Contains(got, strings.TrimPrefix(has, " ")) || len(given.calls) != 1 {
			t.Errorf("after %d calls the error is %q, want %q after 1", len(given.calls), got, want)
		}
	}
}

// TestMuxBySQL has a handler of typed functions that write by database/sql.
func TestMuxBySQL(t *testing.T) {
	t.Parallel()
	s := setupSelective(t)
	s.write("1..2")
	var mux consumer.Mux[*sql.Tx]
	consumer.On(&mux, "amount", "note", func(ctx context.Context, tx *sql.Tx, _ struct{}, e unilog.Entry) error {
		return sqlAdd(ctx, tx, "sum", []unilog.Entry{e})
	})
	s.Consume(s.selects(await.Patience, func(cfg *consumer.Config) { cfg.Handler, cfg.Only = consumer.SQL(mux.Handle), mux.Kinds() }))
	s.WantTotal("sum", "3")
	s.wantCheckpoint(4)
}

func TestMuxPassesOnErrors(t *testing.T) {
	t.Parallel()
	var mux consumer.Mux[*tx]
	consumer.On(&mux, "order", "create", func(context.Context, *tx, order, unilog.Entry) error { return world.ErrPoison })
	if err := mux.Handle(t.Context(), nil, []unilog.Entry{kind("order", "create", `{}`)}); !errors.Is(err, world.ErrPoison) {
		t.Errorf("it returns %v", err)
	}
}

// TestMuxKinds sees that with Kinds as Config.Only the functions get all they know, and
// unknown actions come only where they are rejected.
func TestMuxKinds(t *testing.T) {
	t.Parallel()
	mux := newMux()
	if got := fmt.Sprint(mux.Kinds()); got != "[image order]" {
		t.Errorf("where unknown actions are rejected: %s", got)
	}
	mux.IgnoreUnknown = true
	if got := fmt.Sprint(mux.Kinds()); got != "[image image/delete order/cancel order/create]" {
		t.Errorf("where unknown actions are ignored: %s", got)
	}
	given := new(tx)
	if err := mux.Handle(t.Context(), given, []unilog.Entry{kind("order", "pay", `{}`)}); err != nil || len(given.calls) > 0 {
		t.Errorf("an unknown action that is ignored: %v, %d calls", err, len(given.calls))
	}
	if err := mux.Handle(t.Context(), given, []unilog.Entry{kind(unilog.ReservedObject, "later", `{}`)}); !errors.Is(err, consumer.ErrUnknownAction) {
		t.Errorf("an entry of a later version: %v", err)
	}
}

func TestMuxRefusesARegistration(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context, *tx, unilog.Entry) error { return nil }
	for name, register := range map[string]func(*consumer.Mux[*tx]){
		"there is a function for order/create already": func(m *consumer.Mux[*tx]) { m.On("order", "create", nothing) },
		"there is a function for image already": func(m *consumer.Mux[*tx]) {
			consumer.On(m, "image", "", func(context.Context, *tx, order, unilog.Entry) error { return nil })
		},
		`for the object ""`:              func(m *consumer.Mux[*tx]) { m.On("", "create", nothing) },
		`for the object "unilog"`:        func(m *consumer.Mux[*tx]) { m.On(unilog.ReservedObject, "repartition", nothing) },
		"no function for order/pay":      func(m *consumer.Mux[*tx]) { m.On("order", "pay", nil) },
		"no function for order/pay back": func(m *consumer.Mux[*tx]) { consumer.On[order](m, "order", "pay back", nil) },
	} {
		func() {
			defer func() {
				if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), name) {
					t.Errorf("it panics with %v, want %s", p, name)
				}
			}()
			register(newMux())
		}()
	}
}
