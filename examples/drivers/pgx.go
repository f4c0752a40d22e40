package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// pgxService needs nothing but pgx, and is what the others are compared with.
type pgxService struct{ db *pgxpool.Pool }

func openPgx(ctx context.Context, url string) (service, error) {
	db, err := pgxpool.New(ctx, url)
	return &pgxService{db}, err
}

func (s *pgxService) place(ctx context.Context, o Order) error {
	return pgx.BeginFunc(ctx, s.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders (id, cents) VALUES ($1, $2)`, o.ID, o.Cents); err != nil {
			return err
		}
		if err := unilog.Stage(ctx, tx, o.record()); err != nil {
			return err
		}
		return o.check() // an error rolls both back
	})
}

func (s *pgxService) handler() consumer.Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE revenue SET cents = cents + $1 WHERE consumer = 'pgx'`, cents)
		return err
	}
}

func (s *pgxService) close() error {
	s.db.Close()
	return nil
}
