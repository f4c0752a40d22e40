package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// Order is what a record of an order holds.
type Order struct {
	Cents int `json:"cents"`
}

func earn(ctx context.Context, tx pgx.Tx, order Order, e unilog.Entry) error {
	_, err := tx.Exec(ctx, `INSERT INTO revenue VALUES ($1, $2)`, e.Key, order.Cents)
	return err
}

func forget(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
	_, err := tx.Exec(ctx, `DELETE FROM revenue WHERE id = $1`, e.Key)
	return err
}

func ExampleMux() {
	var mux consumer.Mux[pgx.Tx]
	consumer.On(&mux, "order", "create", earn)
	mux.On("order", "cancel", forget) // gets the record as it is
	cfg := consumer.Config{Name: "revenue", Handler: mux.Handle, Only: mux.Kinds()}
	fmt.Println("asks for", cfg.Only)

	// What cannot be decoded is rejected, and so is an action that nobody has registered.
	for _, r := range []unilog.Record{
		{Object: "order", Action: "create", Data: json.RawMessage(`{"cents": "995"}`)},
		{Object: "order", Action: "refund", Data: json.RawMessage(`{"cents": 995}`)},
	} {
		fmt.Println(mux.Handle(context.Background(), nil, []unilog.Entry{{Record: r}}))
	}
	// Output:
	// asks for [order]
	// order/create: decode its data: json: cannot unmarshal string into Go struct field Order.cents of type int
	// order/refund: no function is registered for this action
}
