package postgres

import (
	"context"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Pooler is what is between a connection and its server, as far as can be seen.
type Pooler int

// The sorts of them.
const (
	NoPooler      Pooler = iota
	SessionPooler        // one that was not seen to share sessions
	SharedPooler         // one in transaction or statement mode
)

// FindPooler finds poolers by what they do, as few can be asked who they are. Postgres
// greets a client with the process id of its session. A pooler greets before it has a
// session, with a number of its own: then it is tried, with one connection more, whether
// the statements of one client, or of two, share sessions.
func FindPooler(ctx context.Context, conn *pgx.Conn) (Pooler, error) {
	pid, err := backend(ctx, conn)
	if err != nil || conn.PgConn().PID() == pid {
		return NoPooler, err
	}
	shared, err := sharesSessions(ctx, conn, pid)
	if err != nil || !shared {
		return SessionPooler, err
	}
	return SharedPooler, nil
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

// backend names the session that answers. It prepares nothing, and does without pgx's
// simple protocol, which needs settings that have yet to be set.
func backend(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	results, err := conn.PgConn().Exec(ctx, `SELECT pg_backend_pid()`).ReadAll()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(results[0].Rows[0][0]), 10, 32)
	return uint32(n), err
}

// Unprepared is how to do without prepared statements behind a pooler that shares
// sessions, and MixedUp what to say about IsMixedUp.
const (
	Unprepared = "add default_query_exec_mode=cache_describe to the connection string, or set max_prepared_statements in pgbouncer 1.21 or later"
	MixedUp    = "a pooler in transaction mode is between: " + Unprepared
)

// IsMixedUp says whether a prepared statement was not found in a session, or found there
// unasked, as behind a pooler that shares sessions, and nobody has said what to do yet.
func IsMixedUp(err error) bool {
	code := SQLState(err)
	return (code == "42P05" || code == "26000") && !strings.Contains(err.Error(), MixedUp)
}
