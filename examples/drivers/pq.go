package main

import (
	"context"
	"database/sql"

	_ "github.com/lib/pq" // the driver "postgres"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// pqService is on database/sql with another driver. Its consumer still has a connection of
// pgx.
type pqService struct{ db *sql.DB }

func openPq(_ context.Context, url string) (service, error) {
	db, err := sql.Open("postgres", url)
	return &pqService{db}, err
}

func (s *pqService) place(ctx context.Context, o Order) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id, cents) VALUES ($1, $2)`, o.ID, o.Cents); err != nil {
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

func (s *pqService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE revenue SET cents = cents + $1 WHERE consumer = 'pq'`, cents)
		return err
	})
}

func (s *pqService) close() error { return s.db.Close() }
