package torture

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
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
		{"each partition's offsets have no gaps", t.gapless},
		{"the log is the end of the archive", t.logIsTheEnd},
		{"what was acknowledged before another was sent is before it in its partition", t.inOrder},
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
			SELECT (data ->> 'id')::bigint AS id, (data ->> 'distance')::numeric AS distance
			FROM unilog.records WHERE object <> 'unilog' -- marks a change of the number of partitions
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
	var records, partitions, gaps int64
	err := t.db.QueryRow(ctx, `
		SELECT sum(records)::bigint, count(*), count(*) FILTER (WHERE records <> next_offset - 1 OR records <> offsets OR first > 1 OR last >= next_offset)
		FROM unilog.partitions AS p CROSS JOIN LATERAL (
			SELECT count(*) AS records, count(DISTINCT "offset") AS offsets, min("offset") AS first, max("offset") AS last
			FROM unilog.records WHERE partition = p.partition
		) AS r`).Scan(&records, &partitions, &gaps)
	return fmt.Sprintf("%d records in %d partitions, %d of them with gaps", records, partitions, gaps), records > 0 && gaps == 0, err
}

// logIsTheEnd compares the log with the archive, entry by entry.
func (t *torture) logIsTheEnd(ctx context.Context) (string, bool, error) {
	rows, err := t.db.Query(ctx, `SELECT partition, next_offset - 1 FROM unilog.partitions ORDER BY partition`)
	if err != nil {
		return "", false, err
	}
	type end struct {
		Partition int
		Last      int64
	}
	ends, err := pgx.CollectRows(rows, pgx.RowToStructByPos[end])
	if err != nil {
		return "", false, err
	}
	var all compared
	short := 0
	for _, p := range ends {
		c, err := t.compare(ctx, p.Partition)
		if err != nil {
			return "", false, err
		}
		if c.last != p.Last {
			short++
		}
		all.count, all.differ, all.holes = all.count+c.count, all.differ+c.differ, all.holes+c.holes
	}
	return fmt.Sprintf("%d entries, %d differ from the archive, %d are missing, %d had been deleted, %d of %d partitions end elsewhere",
			all.count, all.differ, all.holes, t.deleted, short, len(ends)),
		all.count > 0 && all.differ == 0 && all.holes <= t.deleted && short == 0, nil
}

// compared is what a comparison of a partition's log with the archive found.
type compared struct {
	count, differ, holes int64
	last                 int64 // offset in the log
}

func (t *torture) compare(ctx context.Context, partition int) (c compared, err error) {
	var at unilog.Cursor
	for {
		entries, err := t.log.Read(ctx, partition, at, 1000, 0)
		if err != nil || len(entries) == 0 {
			return c, err
		}
		end := entries[len(entries)-1]
		archived, err := t.archived(ctx, partition, entries[0].Offset, end.Offset)
		if err != nil {
			return c, err
		}
		for _, e := range entries {
			if !same(e, archived[e.Offset]) {
				c.differ++
			}
			if c.last > 0 {
				c.holes += e.Offset - c.last - 1
			}
			c.last = e.Offset
		}
		c.count += int64(len(entries))
		at = unilog.Cursor{Offset: end.Offset, Position: end.Position}
	}
}

// archived returns what the archive holds at some offsets, as text.
func (t *torture) archived(ctx context.Context, partition int, first, last int64) (map[int64]string, error) {
	rows, err := t.db.Query(ctx, `
		SELECT "offset", concat_ws(E'\n', action, object, key, headers, data)
		FROM unilog.records_between($1, $2, $3)`, partition, first-1, last)
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
// log carries their data as Postgres writes it.
func same(e unilog.Entry, archived string) bool {
	return len(e.Headers) == 0 && strings.Join([]string{e.Action, e.Object, e.Key, "{}", string(e.Data)}, "\n") == archived
}

// inOrder sees that commit-before-begin is kept: in the order of a partition, no
// ride was answered before one that is earlier in the log was sent. It begins anew where
// the number of partitions has changed: a ride that waited then comes to another
// partition, after rides of other keys.
func (t *torture) inOrder(ctx context.Context) (string, bool, error) {
	acks, err := t.acknowledgements()
	if err != nil {
		return "", false, err
	}
	byID := make(map[int64]rides.Acknowledgement, len(acks))
	for _, a := range acks {
		byID[a.ID] = a
	}
	rows, err := t.db.Query(ctx, `
		SELECT partition, CASE WHEN object <> 'unilog' THEN (data ->> 'id')::bigint ELSE 0 END
		FROM unilog.records ORDER BY partition, "offset"`)
	if err != nil {
		return "", false, err
	}
	var id int64
	var partition, before int
	var sent time.Time // the latest so far
	wrong := 0
	_, err = pgx.ForEachRow(rows, []any{&partition, &id}, func() error {
		if partition != before || id == 0 {
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
	err = t.db.QueryRow(ctx, `SELECT count(*) FROM unilog.dead_letters`).Scan(&parked)
	return says + fmt.Sprintf("%d parked", parked), kept && parked == 0, err
}
