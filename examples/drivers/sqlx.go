package main

import (
	"context"
	"database/sql"

	"github.com/jmoiron/sqlx"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

type sqlxService struct{ db *sqlx.DB }

func openSqlx(_ context.Context, url string) (service, error) {
	db, err := sqlx.Open("pgx", url)
	return &sqlxService{db}, err
}

func (s *sqlxService) place(ctx context.Context, o Order) error {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // after the commit it does nothing
	if _, err := tx.NamedExecContext(ctx, `INSERT INTO orders (id, cents) VALUES (:id, :cents)`, o); err != nil {
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

func (s *sqlxService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		query, args, err := s.db.BindNamed(`UPDATE revenue SET cents = cents + :cents WHERE consumer = 'sqlx' RETURNING cents`, Order{Cents: cents})
		if err != nil {
			return err
		}
		// It does not know how this driver's parameters look: NamedExec is of no use.
		in := sqlx.Tx{Tx: tx, Mapper: s.db.Mapper}
		return in.GetContext(ctx, &cents, query, args...)
	})
}

func (s *sqlxService) close() error { return s.db.Close() }
