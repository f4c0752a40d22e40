package rides

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog/internal/postgres"
)

// unavailable returns what to tell a client when the database cannot serve a
// request now but may serve it later; empty for every other error. Postgres
// itself rolled the request back, or was never asked.
func unavailable(err error) string {
	const (
		lost = "The database is not available."
		busy = "The database is busy."
		slow = "The database took too long to answer."
		// A standby, the old primary of a switchover, or one whose disk is full.
		noWrites = "The database takes no writes at the moment."
	)
	if errors.Is(err, postgres.ErrNotPrimary) {
		return noWrites
	}
	// A server that refuses a connection says why in a PgError, so this comes first.
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "53300": // too_many_connections
			return "The database has too many connections."
		case "25006", "53100": // read_only_sql_transaction, disk_full
			return noWrites
		case "57014": // query_canceled, as by statement_timeout
			return slow
		case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
			return busy
		}
		switch pgErr.Code[:min(2, len(pgErr.Code))] {
		case "53": // insufficient_resources
			return busy
		case "08", "57": // connection_exception, operator_intervention
			return lost
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || pgconn.Timeout(err) {
		return slow
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return lost
	}
	return ""
}
