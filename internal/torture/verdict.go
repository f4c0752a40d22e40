package torture

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/rides"
)

// judge looks, when everything has settled, whether each promise was kept, and
// prints a line for each.
func (t *torture) judge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var broken bool
	for _, promise := range []struct {
		name string
		kept func(context.Context) (says string, kept bool, err error)
	}{
		{"every acknowledged ride is in the database", t.acknowledgedArePresent},
		{"every ride was booked once, however often it was sent", t.bookedOnce},
		{"every ride in the database is in the log exactly once", t.onceInTheLog},
		{"the log's offsets have no gaps", t.gapless},
		{"the stream is the end of the log", t.streamIsTheEnd},
		{"what was acknowledged before another was sent is before it in the log", t.inOrder},
		{"every consumer has the total of all rides", t.totalsAreExact},
	} {
		says, kept, err := promise.kept(ctx)
		if err != nil {
			return fmt.Errorf("look whether %s: %w", promise.name, err)
		}
		verdict := "kept  "
		if !kept {
			verdict, broken = "BROKEN", true
		}
		fmt.Fprintf(t.Out, "%s  %s: %s\n", verdict, promise.name, says)
	}
	if broken {
		return ErrViolated
	}
	fmt.Fprintf(t.Out, "kept    every audit held, or the run would have ended there: %d audits\n", t.watch.now().audits)
	return nil
}

func (t *torture) acknowledgements() ([]rides.Acknowledgement, error) {
	file, err := os.Open(t.acknowledged())
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return rides.ReadAcknowledgements(file)
}

func (t *torture) acknowledgedArePresent(ctx context.Context) (string, bool, error) {
	acks, err := t.acknowledgements()
	if err != nil {
		return "", false, err
	}
	ids, distances := make([]int64, len(acks)), make([]string, len(acks))
	for i, a := range acks {
		ids[i], distances[i] = a.ID, a.Distance.String()
	}
	var distinct, present int
	err = t.db.QueryRow(ctx, `
		SELECT count(DISTINCT a.id), count(r.id)
		FROM unnest($1::bigint[], $2::text[]) AS a (id, distance)
		LEFT JOIN rides AS r ON r.id = a.id AND r.distance = a.distance::numeric`,
		ids, distances).Scan(&distinct, &present)
	return fmt.Sprintf("%d of %d", present, len(ids)), len(ids) > 0 && present == len(ids) && distinct == len(ids), err
}

// bookedOnce compares the rides with the keys that they were sent with.
func (t *torture) bookedOnce(ctx context.Context) (string, bool, error) {
	acks, err := t.acknowledgements()
	if err != nil {
		return "", false, err
	}
	ids, keys := make([]int64, len(acks)), make([][16]byte, len(acks))
	for i, a := range acks {
		ids[i], keys[i] = a.ID, rides.HashKey("", a.Key)
	}
	var total, sent, booked, strange int
	err = t.db.QueryRow(ctx, `
		SELECT (SELECT count(*) FROM rides), count(*), count(DISTINCT ride_id),
			(SELECT count(*) FROM unnest($1::bigint[], $2::uuid[]) AS a (id, key)
			 WHERE NOT EXISTS (SELECT FROM idempotency_keys AS k WHERE k.key = a.key AND k.ride_id = a.id))
		FROM idempotency_keys`, ids, keys).Scan(&total, &sent, &booked, &strange)
	return fmt.Sprintf("%d rides of %d keys, %d acknowledged with another's answer", total, sent, strange),
		total == sent && booked == sent && strange == 0, err
}

func (t *torture) onceInTheLog(ctx context.Context) (string, bool, error) {
	var rides, lacking, twice, strange int
	err := t.db.QueryRow(ctx, `
		WITH logged AS (
			SELECT (data ->> 'id')::bigint AS id, (data ->> 'distance')::numeric AS distance FROM log_records WHERE object <> 'unilog'
		), logged_ride AS (
			SELECT id, count(*) AS times, min(distance) AS distance FROM logged GROUP BY id
		)
		SELECT count(r.id), count(*) FILTER (WHERE l.id IS NULL), count(*) FILTER (WHERE times > 1),
			count(*) FILTER (WHERE r.id IS NULL OR l.distance IS DISTINCT FROM r.distance)
		FROM rides AS r FULL JOIN logged_ride AS l USING (id)`).Scan(&rides, &lacking, &twice, &strange)
	return fmt.Sprintf("%d rides, %d lost, %d doubled, %d strange", rides, lacking, twice, strange),
		lacking+twice+strange == 0, err
}

func (t *torture) gapless(ctx context.Context) (string, bool, error) {
	var first, last, count int64
	var partitions int
	var kept bool
	err := t.db.QueryRow(ctx, `
		WITH archived AS (
			SELECT partition, min("offset") AS first, max("offset") AS last, count(*) AS records FROM log_records GROUP BY partition
		)
		SELECT coalesce(min(first), 0), coalesce(sum(last), 0)::bigint, coalesce(sum(records), 0)::bigint, count(*),
			bool_and(coalesce(last, 0) = next_offset - 1 AND coalesce(first, 1) = 1 AND coalesce(records, 0) = next_offset - 1)
		FROM log_partitions LEFT JOIN archived USING (partition)`).Scan(&first, &last, &count, &partitions, &kept)
	return fmt.Sprintf("%d records from %d to %d%s", count, first, last, of(partitions)), kept && count > 0, err
}

// of says how many partitions a figure is the sum of, if there are several.
func of(partitions int) string {
	if partitions == 1 {
		return ""
	}
	return fmt.Sprintf(" in %d partitions together", partitions)
}

// streamIsTheEnd compares each partition's stream with the archive, entry by entry.
func (t *torture) streamIsTheEnd(ctx context.Context) (string, bool, error) {
	rows, err := t.db.Query(ctx, `SELECT next_offset - 1 FROM log_partitions ORDER BY partition`)
	if err != nil {
		return "", false, err
	}
	lasts, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return "", false, err
	}
	var all compared
	kept := true
	for partition, last := range lasts {
		c, err := t.compare(ctx, partition)
		if err != nil {
			return "", false, err
		}
		kept = kept && c.end == last
		all.entries, all.end, all.differ, all.holes = all.entries+c.entries, all.end+c.end, all.differ+c.differ, all.holes+c.holes
	}
	return fmt.Sprintf("%d entries up to %d%s, %d differ from the archive, %d are missing, %d had been deleted",
			all.entries, all.end, of(len(lasts)), all.differ, all.holes, t.deleted),
		kept && all.differ == 0 && all.holes <= t.deleted, nil
}

// compared is what the comparison of a stream with the archive has found.
type compared struct {
	entries, differ, holes int64
	end                    int64 // the last offset
}

func (t *torture) compare(ctx context.Context, partition int) (c compared, err error) {
	var at unilog.Cursor
	for {
		entries, err := t.log.Read(ctx, partition, at, 1000, 0)
		if err != nil || len(entries) == 0 {
			return c, err
		}
		last := entries[len(entries)-1]
		archived, err := t.archived(ctx, partition, entries[0].Offset, last.Offset)
		if err != nil {
			return c, err
		}
		for _, e := range entries {
			if !same(e, archived[e.Offset]) {
				c.differ++
			}
			if c.entries > 0 {
				c.holes += e.Offset - c.end - 1
			}
			c.end = e.Offset
			c.entries++
		}
		at = unilog.Cursor{Offset: last.Offset, Position: last.Position}
	}
}

// archived returns what the archive holds at some offsets, as text.
func (t *torture) archived(ctx context.Context, partition int, first, last int64) (map[int64]string, error) {
	rows, err := t.db.Query(ctx, `
		SELECT "offset", concat_ws(E'\n', action, object, key, headers, data)
		FROM log_records WHERE partition = $1 AND "offset" BETWEEN $2 AND $3`, partition, first, last)
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	var offset int64
	var text string
	_, err = pgx.ForEachRow(rows, []any{&offset, &text}, func() error {
		found[offset] = text
		return nil
	})
	return found, err
}

// same compares an entry with what is archived. Rides have no headers, and the
// stream carries their data as Postgres writes it.
func same(e unilog.Entry, archived string) bool {
	return len(e.Headers) == 0 && strings.Join([]string{e.Action, e.Object, e.Key, "{}", string(e.Data)}, "\n") == archived
}

// inOrder sees that commit-before-begin is kept: in the order of a partition, no
// ride was answered before one that is earlier in the partition was sent.
func (t *torture) inOrder(ctx context.Context) (string, bool, error) {
	acks, err := t.acknowledgements()
	if err != nil {
		return "", false, err
	}
	byID := make(map[int64]rides.Acknowledgement, len(acks))
	for _, a := range acks {
		byID[a.ID] = a
	}
	rows, err := t.db.Query(ctx, `SELECT partition, (data ->> 'id')::bigint FROM log_records WHERE object <> 'unilog' ORDER BY partition, "offset"`)
	if err != nil {
		return "", false, err
	}
	var id int64
	var sent time.Time // the latest so far, of the partition
	wrong, before, partition := 0, 0, 0
	_, err = pgx.ForEachRow(rows, []any{&partition, &id}, func() error {
		if partition != before {
			before, sent = partition, time.Time{}
		}
		ack, ok := byID[id]
		if !ok {
			return nil // a client that never heard of its ride
		}
		if ack.Answered.Before(sent) {
			wrong++
		}
		if ack.Sent.After(sent) {
			sent = ack.Sent
		}
		return nil
	})
	return fmt.Sprintf("%d out of order", wrong), wrong == 0, err
}

func (t *torture) totalsAreExact(ctx context.Context) (string, bool, error) {
	balances, err := rides.Audit.Check(ctx, t.db)
	if err != nil {
		return "", false, err
	}
	says, kept := "", len(balances) == len(consumerNames)
	for _, b := range balances {
		says += fmt.Sprintf("%s %s of %s m, ", b.Consumer, b.Total, b.Truth)
		kept = kept && b.Agrees && b.Total == b.Truth && b.Lag == 0 && b.Backlog == 0
	}
	var parked int
	err = t.db.QueryRow(ctx, `SELECT count(*) FROM dead_letters`).Scan(&parked)
	return says + fmt.Sprintf("%d parked", parked), kept && parked == 0, err
}
