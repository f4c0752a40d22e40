package doctor

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// examinePooler looks for a pooler. Sessions that are not seen to be shared may still be,
// so that is advice.
func examinePooler(ctx context.Context, conn *pgx.Conn, program string) ([]Finding, error) {
	const why = "the leader's advisory lock, its LISTEN and its timeouts belong to a session, which a pooler in transaction mode gives to others: two streamers could lead in turn, or none"
	change := "connect streamers, and `" + program + " migrate`, to Postgres itself, or use pool_mode = session; writers and consumers may stay behind it"
	finding := func(level Level, found string) Finding {
		return about("pooler", level, found, why, change, Streamer)
	}
	pooler, err := postgres.FindPooler(ctx, conn)
	switch {
	case err != nil:
		return nil, err
	case pooler == postgres.NoPooler:
		return []Finding{finding(OK, "no pooler is between")}, nil
	case pooler == postgres.SessionPooler:
		return []Finding{finding(Advice, "a pooler (pgbouncer or the like) is between, as far as can be seen in session mode")}, nil
	}
	const found = "a pooler (pgbouncer or the like) is between, in transaction mode"
	findings := []Finding{finding(Unsafe, found)}
	if conn.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		findings = append(findings, about("prepared statements", Advice, found,
			"statements prepared in one session may be asked of another, which fails",
			postgres.Unprepared, API, Consumer))
	}
	return findings, nil
}
