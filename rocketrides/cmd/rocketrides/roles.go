package main

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// rolesSQL makes the roles under which the processes need no more than they do.
// It is one transaction, and can be run again.
//
//go:embed roles.sql
var rolesSQL string

func makeRoles(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, rolesSQL); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	return nil
}
