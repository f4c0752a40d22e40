// Package sqltx lets code that is written for database/sql use a transaction of pgx.
package sqltx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Call calls f with a *sql.Tx that is tx: it has tx's connection and cannot end it. Its
// Commit and Rollback return [unilog.ErrTransactionSpoiled], and so does Call if f has
// called one of them and returned no other error. What f was given, and the rows that it
// got, are of no use when Call has returned; rows that are open then are closed.
//
// A statement that is given no context that ends has the one of the call.
func Call(ctx context.Context, tx pgx.Tx, f func(*sql.Tx) error) error {
	c := &conn{ctx: ctx, tx: tx}
	db := sql.OpenDB(connector{c})
	defer db.Close()
	// The end of ctx ends statements. The transaction is the caller's to end.
	until, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	given, err := db.BeginTx(until, nil)
	if err != nil {
		return err
	}
	// Not by a rollback, which waits for ever after a panic in a Scan.
	defer c.leave()
	err = f(given)
	if c.wasEnded() && (err == nil || errors.Is(err, sql.ErrTxDone)) {
		return unilog.ErrTransactionSpoiled
	}
	return err
}

// conn is a driver's connection that is in a transaction, which its only user gets.
type conn struct {
	ctx context.Context // of the call

	mu    sync.Mutex // a goroutine of the user's may outlive the call
	tx    pgx.Tx     // nil when the call is over
	rows  pgx.Rows   // that were asked for last
	ended bool       // by the user, if it could
}

// leave ends the use of the transaction.
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows != nil {
		c.rows.Close()
	}
	c.tx = nil
}

func (c *conn) wasEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// use locks the connection for a statement. The caller unlocks it, also after an error.
func (c *conn) use() error {
	c.mu.Lock()
	if c.tx == nil {
		return sql.ErrTxDone
	}
	return nil
}

// bounded returns ctx, or the context of the call if ctx never ends.
func (c *conn) bounded(ctx context.Context) context.Context {
	if ctx.Done() == nil {
		return c.ctx
	}
	return ctx
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.mu.Unlock()
	if err := c.use(); err != nil {
		return nil, err
	}
	tag, err := c.tx.Exec(c.bounded(ctx), query, values(args)...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	defer c.mu.Unlock()
	if err := c.use(); err != nil {
		return nil, err
	}
	found, err := c.tx.Query(c.bounded(ctx), query, append([]any{formats}, values(args)...)...)
	if err != nil {
		return nil, err
	}
	c.rows = found
	r := &rows{conn: c, rows: found, ahead: true}
	r.more = found.Next() // the columns are known only then
	if err := found.Err(); err != nil {
		found.Close()
		return nil, err
	}
	return r, nil
}

func values(args []driver.NamedValue) []any {
	out := make([]any, len(args))
	for i, a := range args {
		out[i] = a.Value
	}
	return out
}

// CheckNamedValue takes every value: pgx knows what to do with it.
func (c *conn) CheckNamedValue(*driver.NamedValue) error { return nil }

func (c *conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c, nil }

func (c *conn) Begin() (driver.Tx, error) { return c, nil }

func (c *conn) Commit() error { return c.refuse() }

func (c *conn) Rollback() error { return c.refuse() }

func (c *conn) refuse() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tx == nil { // database/sql cleans up
		return nil
	}
	c.ended = true
	return unilog.ErrTransactionSpoiled
}

func (c *conn) Close() error { return nil }

// Prepare only remembers the statement: pgx prepares it when it is first run, and keeps it.
func (c *conn) Prepare(query string) (driver.Stmt, error) { return &stmt{c, query}, nil }

type stmt struct {
	conn  *conn
	query string
}

func (s *stmt) Close() error { return nil }

func (s *stmt) NumInput() int { return -1 } // Postgres sees to it

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

var errNoContext = errors.New("a statement is run with a context")

func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, errNoContext }

func (s *stmt) Query([]driver.Value) (driver.Rows, error) { return nil, errNoContext }

// connector is that of a database of which there is this one connection.
type connector struct{ conn *conn }

func (c connector) Connect(context.Context) (driver.Conn, error) { return c.conn, nil }

func (c connector) Driver() driver.Driver { return c }

func (c connector) Open(string) (driver.Conn, error) { return c.conn, nil }
