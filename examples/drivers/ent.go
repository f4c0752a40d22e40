package main

import (
	"context"
	"database/sql"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/schema/field"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// entService has no generated client, which would be thousands of lines: it makes the calls
// that such a client makes. With one, ent.NewClient(ent.Driver(entTx(tx))) is what writes.
type entService struct{ db *sql.DB }

func openEnt(_ context.Context, url string) (service, error) {
	db, err := openSQL(url)
	return &entService{db}, err
}

// inTx is ent's driver in a transaction that is there already. What ent wants a transaction
// of its own for, it does in that one.
type inTx struct{ dialect.Driver }

func (d inTx) Tx(context.Context) (dialect.Tx, error) { return dialect.NopTx(d), nil }

func entTx(tx *sql.Tx) dialect.Driver {
	return inTx{entsql.NewDriver(dialect.Postgres, entsql.Conn{ExecQuerier: tx})}
}

func (s *entService) place(ctx context.Context, o Order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	create := sqlgraph.NewCreateSpec("orders", sqlgraph.NewFieldSpec("id", field.TypeString))
	create.ID.Value = o.ID
	create.SetField("cents", field.TypeInt64, o.Cents)
	if err := sqlgraph.CreateNode(ctx, entTx(tx), create); err != nil { // client.Order.Create()
		return err
	}
	if err := unilog.StageSQL(ctx, tx, o.record()); err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	return tx.Commit()
}

func (s *entService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		update := sqlgraph.NewUpdateSpec("revenue", []string{"consumer", "cents"}, sqlgraph.NewFieldSpec("consumer", field.TypeString))
		update.Node.ID.Value = "ent"
		update.AddField("cents", field.TypeInt64, cents)
		update.ScanValues = func([]string) ([]any, error) { return []any{new(string), new(int64)}, nil }
		update.Assign = func([]string, []any) error { return nil }
		return sqlgraph.UpdateNode(ctx, entTx(tx), update) // client.Revenue.UpdateOneID("ent").AddCents(cents)
	})
}

func (s *entService) close() error { return s.db.Close() }
