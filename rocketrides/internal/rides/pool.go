package rides

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Pool is a [Database] that gives the place of a lost connection to another one
// at once. A bare pgxpool.Pool keeps it until the lost one has taken its leave
// of the server, up to 15 s when the network has swallowed it: by then every
// place may be taken by such a connection.
type Pool struct{ *pgxpool.Pool }

var _ Database = Pool{}

// QueryRow runs a query for one row; Scan returns its error.
func (p Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	conn, err := p.Acquire(ctx)
	if err != nil {
		return failedRow{err}
	}
	return pooledRow{conn.QueryRow(ctx, sql, args...), conn}
}

// release returns a connection to the pool if it still lives.
func release(conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() {
		conn.Hijack()
		return
	}
	conn.Release()
}

type pooledRow struct {
	pgx.Row
	conn *pgxpool.Conn
}

func (r pooledRow) Scan(dest ...any) error {
	defer release(r.conn)
	return r.Row.Scan(dest...)
}

type failedRow struct{ err error }

func (r failedRow) Scan(...any) error { return r.err }
