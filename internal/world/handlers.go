package world

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

var ErrPoison = errors.New("poison")

// Rejecting wraps a handler so that it rejects some amounts.
func Rejecting(h consumer.Handler, how func(), amounts ...string) consumer.Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		if err := h(ctx, tx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			for _, a := range amounts {
				if string(data(&e.Record)) == `{"amount": `+a+`}` {
					how()
					return ErrPoison
				}
			}
		}
		return nil
	}
}

func CountEntries(n *int) consumer.Handler {
	return func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
		*n += len(entries)
		return nil
	}
}
