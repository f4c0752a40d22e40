package main

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestMain names the server that package unilogtest uses. In a service of your own, an
// environment variable does, and no TestMain is needed.
func TestMain(m *testing.M) {
	server, _, err := testenv.URLs()
	if err == nil {
		err = os.Setenv("UNILOG_TEST_DATABASE_URL", server)
	}
	if err != nil {
		panic(err)
	}
	testenv.Main(m)
}

func TestOrdersAreConsumed(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, db.Config().ConnString(), "postgres:") }()
	await.That(t, "the revenue of an order", func() string {
		var cents int
		if err := db.QueryRow(ctx, `SELECT cents FROM revenue`).Scan(&cents); err != nil {
			return err.Error()
		}
		if cents == 0 {
			return "none"
		}
		return ""
	})
	cancel()
	if err := await.Receive(t, "the service to end", ended); err != nil {
		t.Error(err) // an audit that does not hold, too
	}
}
