package audit

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
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
// The fields but Schema are SQL of the program's own; nothing from outside belongs
// there.
type Equation struct {
	// Truth is a query for the total in the source's tables: one row, one column.
	Truth string
	// Totals is a query for the consumers' totals: rows of a name and a total.
	Totals string
	// Amount is an expression for what a record adds to the total, over its
	// columns action, object, key, data, headers, body and content_type. Of data and
	// body one is null.
	Amount string
	// AddToTotal is a statement that adds $2, a decimal as text, to the total of
	// consumer $1. Only [Equation.Reconcile] and [Equation.Bootstrap] use it.
	AddToTotal string
	// Schema is the one that the log's tables are in: default [unilog.DefaultSchema].
	Schema unilog.Schema
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
	// Began is not 0 if the consumer began later than at the first record, after so many,
	// and was not reconciled since: its total lacks what was before, which nobody knows. It
	// is not audited then. Agrees is true, and Difference says nothing.
	Began int64 `json:"began,omitempty"`
}

// sqlAudit reads everything in one statement and so in one snapshot. Each part
// is read once, whatever the number of consumers: the archive in stretches from one
// checkpoint to the next, of which those after a consumer's are what is ahead of it. It is
// not for a loop without a pause: the truth is as long as the source's table. Entries of
// the log's own count nothing.
//
// Index: batches_pkey for what is ahead; the rest is read whole. What is ahead is not
// sorted, as records_between would: a consumer may be far behind.
const sqlAudit = `
WITH truth (amount) AS MATERIALIZED (
    {truth}
), totals (name, total) AS (
    {totals}
), consumer AS MATERIALIZED (
    SELECT name, coalesce(t.total, 0) AS total
    FROM totals AS t
    FULL JOIN (SELECT DISTINCT name FROM unilog.checkpoints WHERE NOT outside) AS c USING (name)
), place AS MATERIALIZED (
    SELECT c.name, p.partition, coalesce(k."offset", 0) AS "offset", p.next_offset - 1 - coalesce(k."offset", 0) AS lag,
        coalesce(k.began, 0) AS began
    FROM consumer AS c
    CROSS JOIN unilog.partitions AS p
    LEFT JOIN unilog.checkpoints AS k ON k.name = c.name AND k.partition = p.partition
), stretch AS MATERIALIZED (
    SELECT partition, after, up_to, coalesce((
        SELECT last_offset FROM unilog.batches AS e WHERE e.partition = s.partition AND e.last_offset >= s.up_to ORDER BY e.last_offset LIMIT 1
    ), up_to) AS last
    FROM (
        SELECT partition, "offset" AS after, lead("offset", 1, 9223372036854775807) OVER (PARTITION BY partition ORDER BY "offset") AS up_to
        FROM (SELECT DISTINCT partition, "offset" FROM place) AS places
    ) AS s
), behind AS MATERIALIZED (
    SELECT s.partition, s.after, sum(r.amount) OVER (PARTITION BY s.partition ORDER BY s.after DESC) AS amount
    FROM stretch AS s
    CROSS JOIN LATERAL (
        SELECT coalesce(sum({amount}
), 0) AS amount
        FROM (
            SELECT r.action, r.object, r.key, r.data::jsonb AS data, r.headers::jsonb AS headers, r.body, r.content_type
            FROM unilog.batches AS b
            CROSS JOIN LATERAL unnest(b.action, b.object, b.key, b.data, b.headers, b.body, b.content_type)
                WITH ORDINALITY AS r (action, object, key, data, headers, body, content_type, n)
            WHERE b.partition = s.partition AND b.last_offset > s.after AND b.last_offset <= s.last
                AND b.first_offset + r.n - 1 > s.after AND b.first_offset + r.n - 1 <= s.up_to
                AND r.object <> '` + unilog.ReservedObject + `'
        ) AS records
    ) AS r
), ahead AS MATERIALIZED (
    SELECT p.name, sum(b.amount) AS amount, sum(p.lag)::bigint AS lag, sum(p.began)::bigint AS began
    FROM place AS p JOIN behind AS b ON b.partition = p.partition AND b.after = p."offset"
    GROUP BY p.name
), staged AS MATERIALIZED (
    SELECT coalesce(sum({amount}
), 0) AS amount, count(*) AS backlog FROM unilog.staged_records
), parked AS MATERIALIZED (
    SELECT consumer AS name, sum({amount}
) AS amount
    FROM unilog.dead_letters AS d JOIN unilog.checkpoints AS k ON k.name = d.consumer AND k.partition = d.partition
    WHERE d."offset" <= k."offset"
    GROUP BY consumer
), balance AS MATERIALIZED (
    SELECT name, coalesce(truth.amount, 0) AS truth, c.total, ahead.amount AS ahead, staged.amount AS staged,
        coalesce(parked.amount, 0) AS parked, lag, backlog, began
    FROM consumer AS c JOIN ahead USING (name) LEFT JOIN parked USING (name) CROSS JOIN staged CROSS JOIN truth
)
SELECT name, truth::text, total::text, ahead::text, staged::text, parked::text,
    trim_scale((truth - total - ahead - staged - parked)::numeric)::text AS difference,
    truth = total + ahead + staged + parked OR began > 0 AS agrees,
    lag, backlog, began
FROM balance
ORDER BY name`

// Batcher sends statements together: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Batcher interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// Check evaluates the equation for every consumer that has a total or a
// checkpoint. It writes nothing and takes no locks that anyone waits for. An
// error means that it could not look, not that a consumer disagrees. Deliverers
// have no total, and it leaves them out. Whose total it cannot know it says by Began. Only ctx bounds its time: no timeout that is
// set for the role or the database.
func (a Equation) Check(ctx context.Context, db Batcher) (balances []Balance, err error) {
	if err := a.Schema.Check(); err != nil {
		return nil, fmt.Errorf("audit: Equation.Schema: %w", err)
	}
	var batch pgx.Batch
	postgres.Bound(ctx, &batch)
	batch.Queue(postgres.SQLSettings)
	batch.Queue(a.sql()).Query(func(rows pgx.Rows) (err error) {
		balances, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Balance])
		return err
	})
	err = db.SendBatch(ctx, &batch).Close()
	switch {
	case strings.HasPrefix(postgres.SQLState(err), "22"):
		return nil, fmt.Errorf("audit: no record may make the amount fail, also none that a consumer has rejected: count what is malformed as it was applied, or as 0: %w", err)
	case err != nil:
		return nil, fmt.Errorf("audit: %w", postgres.Explain(err))
	}
	return balances, nil
}

// sql is the statement that evaluates the equation. The program's own SQL stays as it
// is, whatever the schema.
func (a Equation) sql() string {
	return strings.NewReplacer("{truth}", a.Truth, "{totals}", a.Totals, "{amount}", a.Amount).Replace(a.Schema.SQL(sqlAudit))
}
