package main

import (
	"context"
	"database/sql"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

type gormService struct{ db *gorm.DB }

func openGORM(_ context.Context, url string) (service, error) {
	db, err := gorm.Open(postgres.Open(url))
	return &gormService{db}, err
}

func (s *gormService) place(ctx context.Context, o Order) error {
	return s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&o).Error; err != nil {
			return err
		}
		if err := unilog.StageSQL(ctx, tx.Statement.ConnPool, o.record()); err != nil {
			return err
		}
		return o.check() // an error rolls both back
	})
}

// in returns a session in a transaction that is there already.
func (s *gormService) in(ctx context.Context, tx *sql.Tx) *gorm.DB {
	session := s.db.Session(&gorm.Session{NewDB: true, Context: ctx})
	session.Statement.ConnPool = tx
	return session
}

func (s *gormService) handler() consumer.Handler {
	return consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		cents, err := total(entries)
		if err != nil {
			return err
		}
		return s.in(ctx, tx).Table("revenue").Where("consumer = ?", "gorm").
			Update("cents", gorm.Expr("cents + ?", cents)).Error
	})
}

func (s *gormService) close() error {
	db, err := s.db.DB()
	if err != nil {
		return err
	}
	return db.Close()
}
