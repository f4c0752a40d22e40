package consumer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rocketrides/unilog"
)

// Mux gives each record to the function that is registered for its kind. Its zero value
// is one that has none. Tx is the transaction that the functions get: pgx.Tx, if Handle
// is to be a [Handler], or *sql.Tx for SQL(mux.Handle).
//
//	var mux consumer.Mux[pgx.Tx]
//	consumer.On(&mux, "order", "create", earn) // func(ctx, tx pgx.Tx, order Order, e unilog.Entry) error
//	c, err := consumer.New(consumer.Config{…, Handler: mux.Handle, Only: mux.Kinds()})
//
// Records of other objects are passed over. An unknown action of an object that has a
// function is rejected, unless IgnoreUnknown says otherwise.
//
// All functions are to be registered before Handle is called. From then on it is safe for
// concurrent use, as far as the functions are.
type Mux[Tx any] struct {
	// IgnoreUnknown passes over actions that have no function, of objects that have one.
	// By default such a record is rejected: somebody has to say what to make of it.
	IgnoreUnknown bool

	handlers map[unilog.Kind]func(context.Context, Tx, unilog.Entry) error
	objects  map[string]bool
}

// ErrUnknownAction says that a [Mux] has no function for an action of an object.
var ErrUnknownAction = errors.New("no function is registered for this action")

// On registers a function for an action of an object, or with "" for all its actions that
// have no function of their own. The record's data is decoded into a T by encoding/json. A
// record whose data is not a T is rejected, and so is one that has a Body instead.
//
// It panics where [Mux.On] does.
func On[T, Tx any](m *Mux[Tx], object, action string, f func(ctx context.Context, tx Tx, data T, e unilog.Entry) error) {
	if f == nil {
		panic("consumer: no function for " + unilog.Kind{Object: object, Action: action}.String())
	}
	m.On(object, action, func(ctx context.Context, tx Tx, e unilog.Entry) error {
		var data T
		if e.ContentType != "" {
			return fmt.Errorf("%s: its payload is %s, which is not decoded: register its kind with Mux.On", kindOf(&e), e.ContentType)
		}
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return fmt.Errorf("%s: decode its data: %w", kindOf(&e), err)
		}
		return f(ctx, tx, data, e)
	})
}

// On registers a function for an action of an object, or with "" for all its actions that
// have no function of their own. It gets the record as it is.
//
// On panics if the object is empty or [unilog.ReservedObject], if the function is nil, or
// if the kind has one.
func (m *Mux[Tx]) On(object, action string, f func(ctx context.Context, tx Tx, e unilog.Entry) error) {
	kind := unilog.Kind{Object: object, Action: action}
	switch {
	case object == "" || object == unilog.ReservedObject:
		panic(fmt.Sprintf("consumer: no function can be registered for the object %q", object))
	case f == nil:
		panic("consumer: no function for " + kind.String())
	case m.handlers[kind] != nil:
		panic("consumer: there is a function for " + kind.String() + " already")
	}
	if m.handlers == nil {
		m.handlers, m.objects = map[unilog.Kind]func(context.Context, Tx, unilog.Entry) error{}, map[string]bool{}
	}
	m.handlers[kind], m.objects[object] = f, true
}

// Handle gives the entries to their functions, one after the other, up to the first
// error. As a method value it is a [Handler], if Tx is pgx.Tx.
func (m *Mux[Tx]) Handle(ctx context.Context, tx Tx, entries []unilog.Entry) error {
	for i := range entries {
		e := &entries[i]
		f := m.handlers[kindOf(e)]
		if f == nil {
			f = m.handlers[unilog.Kind{Object: e.Object}]
		}
		switch {
		case f != nil:
			if err := f(ctx, tx, *e); err != nil {
				return err
			}
		case e.Object == unilog.ReservedObject, m.objects[e.Object] && !m.IgnoreUnknown:
			return fmt.Errorf("%s: %w", kindOf(e), ErrUnknownAction)
		}
	}
	return nil
}

// Kinds are what Handle is to get, for [Config.Only], in order: what has a function, and
// where unknown actions are rejected, all of an object that has one.
func (m *Mux[Tx]) Kinds() []unilog.Kind {
	var kinds []unilog.Kind
	if m.IgnoreUnknown {
		kinds = slices.Collect(maps.Keys(m.handlers))
	} else {
		for object := range m.objects {
			kinds = append(kinds, unilog.Kind{Object: object})
		}
	}
	slices.SortFunc(kinds, func(a, b unilog.Kind) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Action, b.Action))
	})
	return kinds
}

func kindOf(e *unilog.Entry) unilog.Kind {
	return unilog.Kind{Object: e.Object, Action: e.Action}
}
