package unilog_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/streamer"
)

// A record of any bytes, as a library for Protobuf or Avro gives them. Who reads it looks
// at its content type first.
func ExampleRecord_body() {
	ctx := context.Background()
	db, stream, closeAll := exampleServers(ctx, "example_body")
	defer closeAll()

	const contentType = "application/x-cents" // four bytes
	check(unilog.Stage(ctx, db, unilog.Record{
		Action: "create", Object: "order", Key: "1",
		Body: binary.BigEndian.AppendUint32(nil, 995), ContentType: contentType,
	}))
	streamer, err := streamer.New(streamer.Config{DB: db, Log: stream, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	_, err = streamer.RunOnce(ctx)
	check(err)

	consumer, err := consumer.New(consumer.Config{
		Name: "revenue", DB: db, Archive: db, Log: stream,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			if e.ContentType != contentType || len(e.Body) != 4 {
				return errors.New("this is no order") // rejects the record
			}
			fmt.Println(e.Action, e.Object, e.Key, binary.BigEndian.Uint32(e.Body))
			return nil
		}),
	})
	check(err)
	_, err = consumer.RunOnce(ctx)
	check(err)
	// Output: create order 1 995
}
