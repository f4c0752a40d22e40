package unilog_test

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

var errPoison = errors.New("poison")

// rejecting wraps a handler so that it rejects some amounts.
func rejecting(h unilog.Handler, how func(), amounts ...string) unilog.Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		if err := h(ctx, tx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			for _, a := range amounts {
				if string(e.Data) == `{"amount": `+a+`}` {
					how()
					return errPoison
				}
			}
		}
		return nil
	}
}

func countEntries(n *int) unilog.Handler {
	return func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
		*n += len(entries)
		return nil
	}
}
