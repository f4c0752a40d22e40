package main

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

type bunService struct{ db *bun.DB }

func openBun(_ context.Context, url string) (service, error) {
	db, err := openSQL(url)
	if err != nil {
		return nil, err
	}
	return &bunService{bun.NewDB(db, pgdialect.New())}, nil
}

func (s *bunService) place(ctx context.Context, o Order) error {
	return s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&o).Exec(ctx); err != nil {
			return err
		}
		if err := unilog.StageSQL(ctx, tx.Tx, o.record()); err != nil { // bun.Tx itself takes no $1
			return err
		}
		return o.check() // an error rolls both back
	})
}

func (s *bunService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		_, err = s.db.NewUpdate().Conn(tx).Table("revenue").Set("cents = cents + ?", cents).Where("consumer = ?", "bun").Exec(ctx)
		return err
	})
}

func (s *bunService) close() error { return s.db.Close() }
