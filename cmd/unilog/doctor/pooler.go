package doctor

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// sqlBackend names the session that answers.
const sqlBackend = `SELECT pg_backend_pid()`

// examinePooler finds poolers by what they do, as few can be asked who they are.
// Postgres greets a client with the process id of its session. A pooler greets
// before it has a session, with a number of its own: then it is tried whether
// the statements of one client, or of two, share sessions. Sessions that are not
// seen to be shared may still be, so that is advice.
func examinePooler(ctx context.Context, conn *pgx.Conn, program string) ([]Finding, error) {
	const why = "the leader's advisory lock, its LISTEN and its timeouts belong to a session, which a pooler in transaction mode gives to others: two streamers could lead in turn, or none"
	change := "connect streamers, and `" + program + " migrate`, to Postgres itself, or use pool_mode = session"
	finding := func(level Level, found string) Finding {
		return about("pooler", level, found, why, change, Streamer)
	}
	pid, err := backend(ctx, conn)
	if err != nil {
		return nil, err
	}
	if conn.PgConn().PID() == pid {
		return []Finding{finding(OK, "no pooler is between")}, nil
	}
	shared, err := sharesSessions(ctx, conn, pid)
	switch {
	case err != nil:
		return nil, err
	case !shared:
		return []Finding{finding(Advice, "a pooler (pgbouncer or the like) is between, as far as can be seen in session mode")}, nil
	}
	const found = "a pooler (pgbouncer or the like) is between, in transaction mode"
	findings := []Finding{finding(Unsafe, found)}
	if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		findings = append(findings, about("prepared statements", Advice, found,
			"statements prepared in one session may be asked of another, which fails",
			"add default_query_exec_mode=cache_describe to DATABASE_URL, or set max_prepared_statements in pgbouncer 1.21 or later", API, Consumer))
	}
	return findings, nil
}

// sharesSessions tells whether another client is given the session with pid, or
// conn another one, now that there is a choice.
func sharesSessions(ctx context.Context, conn *pgx.Conn, pid uint32) (bool, error) {
	other, err := pgx.ConnectConfig(ctx, conn.Config())
	if err != nil {
		return false, err
	}
	defer other.Close(ctx)
	if theirs, err := backend(ctx, other); err != nil || theirs == pid {
		return err == nil, err
	}
	for range 2 { // of two sessions, a pooler that takes turns may give the old one first
		if now, err := backend(ctx, conn); err != nil || now != pid {
			return err == nil, err
		}
	}
	return false, nil
}

func backend(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, sqlBackend, pgx.QueryExecModeSimpleProtocol).Scan(&pid)
	return pid, err
}
