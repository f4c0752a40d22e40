package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// Equation states an equation that holds at every instant for every consumer which
// sums something up in the database that the records are staged in:
//
//	truth = total + ahead + staged + parked
//
// where total is the consumer's, and the others are sums over the records that
// are in the log beyond its checkpoint, staged, or parked in dead_letters. All
// of it is read in one snapshot, so it needs no waiting for anything. Sums must
// be exact: of type numeric, or of integers.
//
// The fields are SQL of the program's own; nothing from outside belongs there.
type Equation struct {
	// Truth is a query for the total in the source's tables: one row, one column.
	Truth string
	// Totals is a query for the consumers' totals: rows of a name and a total.
	Totals string
	// Amount is an expression for what a record adds to the total, over its
	// columns action, object, key, data and headers.
	Amount string
	// AddToTotal is a statement that adds $2, a decimal as text, to the total of
	// consumer $1. Only [Equation.Reconcile] and [Equation.Bootstrap] use it.
	AddToTotal string
}

// Balance is the equation of one consumer, as exact decimals.
type Balance struct {
	Consumer string `json:"consumer"`
	Truth    string `json:"truth"`
	Total    string `json:"total"`
	Ahead    string `json:"ahead"`
	Staged   string `json:"staged"`
	Parked   string `json:"parked"`
	// Difference is truth less all the rest: "0" if the consumer agrees.
	Difference string `json:"difference"`
	Agrees     bool   `json:"agrees"`
	// Lag is the number of records between the log's head and the checkpoint, of all
	// partitions together, and Backlog the number of those that are staged.
	Lag     int64 `json:"lag"`
	Backlog int64 `json:"backlog"`
}

// sqlAudit reads everything in one statement and so in one snapshot. Each part
// is read once. It is not for a loop without a pause: the truth is as long as
// the source's table.
//
// Index: log_records_pkey for what is ahead; the rest is read whole.
const sqlAudit = `
WITH truth (amount) AS MATERIALIZED (
    %[1]s
), totals (name, total) AS (
    %[2]s
), consumer AS MATERIALIZED (
    SELECT name, coalesce(t.total, 0) AS total
    FROM totals AS t
    FULL JOIN (SELECT DISTINCT name FROM checkpoints WHERE NOT outside) AS c USING (name)
), ahead AS MATERIALIZED (
    SELECT c.name, sum(r.amount) AS amount, sum(p.next_offset - 1 - coalesce(k."offset", 0))::bigint AS lag,
        bool_and(r.records = greatest(p.next_offset - 1 - coalesce(k."offset", 0), 0)) AS complete
    FROM consumer AS c
    CROSS JOIN log_partitions AS p
    LEFT JOIN checkpoints AS k ON k.name = c.name AND k.partition = p.partition
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(%[3]s
), 0) AS amount, count(*) AS records FROM log_records
        WHERE partition = p.partition AND "offset" > coalesce(k."offset", 0)
    ) AS r
    GROUP BY c.name
), staged AS MATERIALIZED (
    SELECT coalesce(sum(%[3]s
), 0) AS amount, count(*) AS backlog FROM staged_log_records
), parked AS MATERIALIZED (
    SELECT consumer AS name, sum(%[3]s
) AS amount
    FROM dead_letters AS d JOIN checkpoints AS k ON k.name = d.consumer AND k.partition = d.partition
    WHERE d."offset" <= k."offset"
    GROUP BY consumer
), balance AS MATERIALIZED (
    SELECT name, coalesce(truth.amount, 0) AS truth, c.total, ahead.amount AS ahead, staged.amount AS staged,
        coalesce(parked.amount, 0) AS parked, lag, backlog, complete
    FROM consumer AS c JOIN ahead USING (name) LEFT JOIN parked USING (name) CROSS JOIN staged CROSS JOIN truth
)
SELECT name, truth::text, total::text, ahead::text, staged::text, parked::text,
    trim_scale((truth - total - ahead - staged - parked)::numeric)::text AS difference,
    truth = total + ahead + staged + parked AS agrees,
    lag, backlog, complete
FROM balance
ORDER BY name`

// Batcher sends statements together: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Check evaluates the equation for every consumer that has a total or a
// checkpoint. It writes nothing and takes no locks that anyone waits for. An
// error means that it could not look, not that a consumer disagrees. Deliverers
// have no total, and it leaves them out.
func (a Equation) Check(ctx context.Context, db Batcher) ([]Balance, error) {
	const attempts = 3 // a chunk comes once in a million records
	for i := 1; ; i++ {
		balances, complete, err := a.look(ctx, db)
		if err != nil {
			if strings.HasPrefix(postgres.SQLState(err), "22") {
				return nil, fmt.Errorf("audit: no record may make the amount fail, also none that a consumer has rejected: count what is malformed as it was applied, or as 0: %w", err)
			}
			return nil, fmt.Errorf("audit: %w", err)
		}
		if complete || i == attempts {
			return balances, nil
		}
	}
}

// look evaluates the equation once. It is complete if it has seen as many
// records as there are offsets, in each partition. If not, records may be missing, or the statement
// was planned before the archive got the chunk that they are in: Postgres plans
// first and takes the snapshot then.
func (a Equation) look(ctx context.Context, db Batcher) (balances []Balance, complete bool, err error) {
	complete = true
	var batch pgx.Batch
	batch.Queue(postgres.SQLNoJIT)
	batch.Queue(fmt.Sprintf(sqlAudit, a.Truth, a.Totals, a.Amount)).Query(func(rows pgx.Rows) error {
		type counted struct {
			Balance
			Complete bool
		}
		seen, err := pgx.CollectRows(rows, pgx.RowToStructByPos[counted])
		for _, c := range seen {
			balances = append(balances, c.Balance)
			complete = complete && c.Complete
		}
		return err
	})
	return balances, complete, db.SendBatch(ctx, &batch).Close()
}
