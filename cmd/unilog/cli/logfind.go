package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// LogFind searches the archive.
type LogFind struct {
	DatabaseFlags `embed:""`
	KindFlags     `embed:""`
	Key           string        `help:"Records of this key."`
	Since         *Moment       `placeholder:"TIME" help:"Staged since then: a time, or a duration before now, as 24h."`
	Until         *Moment       `placeholder:"TIME" help:"Staged before then."`
	Limit         int           `default:"100" help:"Stop after so many; 0 for no limit."`
	JSON          bool          `name:"json" help:"Print each record whole, as a line of JSON."`
	Timeout       time.Duration `default:"1h" help:"Give up when it takes longer."`
}

// Help follows the flags' own help.
func (LogFind) Help() string {
	return `There is no index by key: the archive is read from its beginning, or from --since on, partition by partition, a million records in about half a second. A key's own partition comes first. The others are searched, too, since a change of the number of partitions moves keys. What is staged and not numbered yet is not found.`
}

// Validate refuses a search for everything, which tail is for.
func (c *LogFind) Validate() error {
	switch {
	case c.Limit < 0:
		return fmt.Errorf("--limit is %d: it must be 0 or more", c.Limit)
	case c.Key == "" && len(c.Only) == 0 && c.Since == nil && c.Until == nil:
		return errors.New("what is looked for? Give --key, --only, --since or --until")
	}
	return c.KindFlags.Validate()
}

// Run prints nothing if there is none.
func (c *LogFind) Run(ctx context.Context, p *Program) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	now, err := lookAtLog(ctx, db, c.Schema)
	if err != nil {
		return err
	}
	kinds, err := c.kinds()
	if err != nil {
		return err
	}
	printer, found := newEntryPrinter(c.JSON), 0
	s := search{db: db, schema: c.Schema, now: now, key: c.Key, kinds: kinds, since: time.Unix(0, 0), until: now.now.AddDate(100, 0, 0)}
	if c.Since != nil {
		s.since = c.Since.after(now.now)
	}
	if c.Until != nil {
		s.until = c.Until.after(now.now)
	}
	err = s.run(ctx, func(e *unilog.Entry) error {
		if c.Limit > 0 && found == c.Limit {
			return errEnough
		}
		found++
		return printer.print(e)
	})
	if errors.Is(err, errEnough) {
		note("stopped after %d records: there are more (--limit)", found)
		err = nil
	}
	return unlessGone(Unanswered(err, MoreTime))
}

var errEnough = errors.New("that is enough")

// search looks for records in the archive.
type search struct {
	db           *pgxpool.Pool
	schema       unilog.Schema
	now          logNow
	key          string // "" for any
	kinds        []unilog.Kind
	since, until time.Time
}

const (
	// searchBatches is how many batches a statement looks at, so that none takes long.
	searchBatches = 50
	// progressPause is the time between two lines that say how far a search is.
	progressPause = 2 * time.Second

	// sqlSearched returns where a part of the archive ends that has so many batches.
	// Index: batches_pkey.
	sqlSearched = `
SELECT max(last_offset)
FROM (SELECT last_offset FROM unilog.batches WHERE partition = $1 AND last_offset > $2 ORDER BY last_offset LIMIT $3) AS b`

	// sqlSearch searches a part of a partition, after $2 and up to $3. A batch without the
	// key, or without any of the objects $7 and actions $8, is left out by that array alone:
	// its others stay compressed. An action that is empty is any. What was numbered before a
	// time was staged before it. Index: batches_pkey.
	sqlSearch = `
SELECT b.first_offset + r.n - 1, r.staged_at, r.action, r.object, r.key, r.data, r.headers, r.body, coalesce(r.content_type, '')
FROM unilog.batches AS b
CROSS JOIN LATERAL unnest(b.staged_at, b.action, b.object, b.key, b.data, b.headers, b.body, b.content_type)
    WITH ORDINALITY AS r (staged_at, action, object, key, data, headers, body, content_type, n)
WHERE b.partition = $1 AND b.last_offset > $2 AND b.first_offset <= $3 AND b.last_offset <= (
        SELECT last_offset FROM unilog.batches WHERE partition = $1 AND last_offset >= $3 ORDER BY last_offset LIMIT 1
    )
    AND b.numbered_at >= $4 AND ($6 = '' OR $6 = ANY (b.key))
    AND (cardinality($7::text[]) = 0 OR b.object && $7::text[]) AND (cardinality($7::text[]) = 0 OR '' = ANY ($8::text[]) OR b.action && $8::text[])
    AND b.first_offset + r.n - 1 > $2 AND b.first_offset + r.n - 1 <= $3
    AND r.staged_at >= $4 AND r.staged_at < $5 AND ($6 = '' OR r.key = $6)
    AND (cardinality($7::text[]) = 0 OR EXISTS (SELECT FROM unnest($7::text[], $8::text[]) AS k (object, action) WHERE k.object = r.object AND k.action IN ('', r.action)))
ORDER BY b.last_offset, r.n`
)

// run gives what it finds, in the order of offsets within a partition, and says how far
// it is while that takes long.
func (s *search) run(ctx context.Context, each func(*unilog.Entry) error) error {
	var total, done int64
	order := make([]partitionNow, 0, len(s.now.partitions))
	first := 0
	if s.key != "" {
		first = unilog.PartitionOf(s.key, s.now.active)
	}
	for i := range s.now.partitions {
		p := s.now.partitions[(first+i)%len(s.now.partitions)]
		order = append(order, p)
		total += p.Numbered
	}
	said, found := time.Now(), 0
	for _, p := range order {
		for after := int64(0); ; {
			var upTo *int64
			if err := s.db.QueryRow(ctx, s.schema.SQL(sqlSearched), p.Partition, after, searchBatches).Scan(&upTo); err != nil {
				return fmt.Errorf("search the archive: %w", postgres.Explain(err))
			}
			if upTo == nil {
				break
			}
			err := s.part(ctx, p.Partition, after, *upTo, func(e *unilog.Entry) error {
				found++
				return each(e)
			})
			if err != nil {
				return err
			}
			after = *upTo
			if time.Since(said) >= progressPause {
				note("searched up to offset %d of partition %d (%d%%), found %d", after, p.Partition, 100*(done+after)/max(total, done+after), found)
				said = time.Now()
			}
		}
		done += p.Numbered
	}
	return nil
}

// part searches a part of a partition.
func (s *search) part(ctx context.Context, partition int, after, upTo int64, each func(*unilog.Entry) error) error {
	objects, actions := []string{}, []string{}
	for _, kind := range s.kinds {
		objects, actions = append(objects, kind.Object), append(actions, kind.Action)
	}
	var batch pgx.Batch
	postgres.Bound(ctx, &batch)
	batch.Queue(postgres.SQLSettings)
	var failed error
	batch.Queue(s.schema.SQL(sqlSearch), partition, after, upTo, s.since, s.until, s.key, objects, actions).Query(func(rows pgx.Rows) error {
		e := unilog.Entry{Partition: partition}
		var data, headers, body []byte
		var contentType string
		_, err := pgx.ForEachRow(rows, []any{&e.Offset, &e.StagedAt, &e.Action, &e.Object, &e.Key, &data, &headers, &body, &contentType}, func() (err error) {
			if contentType != "" {
				data = body
			}
			e.SetPayload(data, contentType)
			if e.Headers, err = unilog.DecodeHeaders(headers); err != nil {
				return err
			}
			failed = each(&e)
			return failed
		})
		return err
	})
	err := s.db.SendBatch(ctx, &batch).Close()
	if failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("search the archive: %w", postgres.Explain(err))
	}
	return nil
}
