package main

import (
	"context"
	"fmt"
	"os/exec"

	"github.com/jackc/pgx/v5"
)

// A peer carries records from Postgres to a stream in Redis. It is a value without
// state: what it keeps is in a world's servers and directory.
type peer interface {
	// name is short and unique. That of a tuned one ends with ", tuned".
	name() string
	// setting says how it is configured, in a line of Markdown.
	setting() string
	// postgresArgs are what its Postgres needs beside what all have.
	postgresArgs() []string
	// prepare makes its tables in a new database.
	prepare(ctx context.Context, w *world) error
	// stage writes records in the caller's transaction, in this order.
	stage(ctx context.Context, tx pgx.Tx, ids []int) error
	// command is the relay, not started yet. It may be called for the same world again
	// after that one was killed.
	command(w *world) (*exec.Cmd, error)
	// stream is the key in Redis. Some field of each entry has the record's JSON.
	stream() string
}

// payload is the JSON of a record.
func payload(id int) string {
	return fmt.Sprintf(`{"id": %d, "distance": %d.%02d, "customer_id": %d}`, id, 5+id%995, id%100, id%5000)
}
