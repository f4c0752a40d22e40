// Package postgres has what all code of ours that talks to Postgres shares: which
// errors pass by themselves, and the smallest interfaces that do.
package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Querier runs a query: a pgxpool.Pool, a pgx.Conn or a pgx.Tx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Beginner begins a transaction: a pgxpool.Pool or a pgx.Conn.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// IsLockTimeout says whether a lock was not to be had within lock_timeout.
func IsLockTimeout(err error) bool { return SQLState(err) == "55P03" }

// HasNoRight says whether the role may not do something, or not see it.
func HasNoRight(err error) bool { return SQLState(err) == "42501" }

// SQLState returns the SQLSTATE of an error from the server, or "".
func SQLState(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// Rollback ends a transaction that was not committed. If it fails, so has the
// connection, and the server rolls back.
func Rollback(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// IsSetup says whether a statement failed for what it names or needs, whatever the data
// it was given: what is not there, is not allowed, or is damaged. A person must mend
// that. Some errors of these classes come of data, such as a text that is not a tsquery:
// they are not counted.
func IsSetup(err error) bool {
	code := SQLState(err)
	switch code {
	case "42601", "42602": // syntax, a name: also of a value that a type parses
		return false
	case "0A000", // not supported, as a plan of before a migration
		"XX001", "XX002": // damaged data, a damaged index
		return true
	}
	for _, class := range [...]string{
		"25", "2D", // not in the right state of a transaction, or not to be ended there
		"26", "34", // no such prepared statement, no such cursor
		"28", // who may not connect
		"3D", // no such database
		"3F", // no such schema
		"42", // no such table, column, function or right
		"55", // not in the state that is needed
	} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}

// IsTransient says whether the database, rather than the record, is why a
// transaction failed, so that the same transaction may succeed later.
func IsTransient(err error) bool {
	var netErr net.Error
	if errors.As(err, &netErr) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	code := SQLState(err)
	switch code {
	case "57014": // cancelled, as by statement_timeout: less work may do
		return false
	case readOnlyTransaction,
		"25P03", // idle in transaction: this process was frozen, or hung
		"55P03": // lock not available
		return true
	}
	for _, class := range [...]string{
		"08", // connection
		"40", // serialization failure, deadlock
		"53", // out of connections, memory or disk
		"57", // shutting down
		"58", // its disk failed it
	} {
		if strings.HasPrefix(code, class) {
			return true
		}
	}
	return false
}
