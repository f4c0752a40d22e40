package main

import (
	"context"
	"database/sql"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/examples/drivers/sqlcdb"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate -f sqlcdb/sqlc.yaml

// sqlcService is on database/sql. What sqlc generates for pgx works with
// [unilog.Stage] and a plain handler.
type sqlcService struct{ db *sql.DB }

func openSqlc(_ context.Context, url string) (service, error) {
	db, err := openSQL(url)
	return &sqlcService{db}, err
}

func (s *sqlcService) place(ctx context.Context, o Order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	if err := sqlcdb.New(tx).CreateOrder(ctx, sqlcdb.CreateOrderParams(o)); err != nil {
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

func (s *sqlcService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		return sqlcdb.New(tx).AddRevenue(ctx, sqlcdb.AddRevenueParams{Cents: cents, Consumer: "sqlc"})
	})
}

func (s *sqlcService) close() error { return s.db.Close() }
