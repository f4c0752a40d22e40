package streamer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlCheckpoints lists how far each consumer of this database has come, and
// whether it has been silent for longer than $2 seconds. Index: a handful of
// rows, read whole.
const sqlCheckpoints = `
SELECT name, "offset", updated_at < clock_timestamp() - make_interval(secs => $2)
FROM checkpoints WHERE partition = $1`

// sqlOlderThan says whether a record was numbered more than $3 seconds ago.
// Index: log_records_pkey.
const sqlOlderThan = `
SELECT numbered_at < clock_timestamp() - make_interval(secs => $3)
FROM log_records WHERE partition = $1 AND "offset" = $2`

// logExcess bounds what the log keeps for consumers that are behind, in
// multiples of KeepRecords. The archive keeps the rest for them.
const logExcess = 100

// upkeep looks after what no record asks for: a log that was emptied while
// nothing was published, what nobody needs, and room in the archive. Only the
// first is a matter of the log being right; the rest is reported and tried
// again.
func (p *publisher) upkeep(ctx context.Context) error {
	l := p.lead
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	l.lastUpkeep = time.Now()
	head, err := p.claim(ctx)
	if err != nil {
		return err
	}
	if err := l.checkHead(ctx, head); err != nil {
		return err
	}
	if head < l.published {
		return p.rebuild(ctx, head)
	}
	complaint := ""
	// None waits for the success of another.
	for _, f := range []func(context.Context) error{p.moveLowWater, p.tidy} {
		if err := f(ctx); err != nil {
			complaint = err.Error()
		}
	}
	if complaint != "" && complaint != l.complaint {
		p.log.Warn("upkeep failed: records are published all the same", "err", complaint)
	}
	l.complaint = complaint
	return nil
}

func (p *publisher) moveLowWater(ctx context.Context) error {
	if !p.lead.solo {
		return nil // the numberer's
	}
	return p.lead.low.move(ctx, p.lead.conn, p.cfg.DB)
}

// tidy trims the log, drops old chunks of the archive and adds the next one.
func (p *publisher) tidy(ctx context.Context) error {
	l := p.lead
	needed, err := p.oldestNeeded(ctx)
	if err != nil {
		return err
	}
	if upTo := p.trimTo(needed); upTo > l.trimmed {
		err := l.awake(ctx, "trim the log", func(ctx context.Context) error { return p.cfg.Log.Trim(ctx, l.term.Partition, upTo) })
		if err != nil {
			return err
		}
		l.trimmed = upTo
	}
	if l.solo {
		err = l.chunks.AddAhead(ctx, l.conn, l.term, p.partition, l.numbered, p.cfg.chunkRecords)
	} else { // by the numberer
		var all map[int]archive.Chunks
		all, err = archive.ListChunks(ctx, l.conn)
		l.chunks = all[p.partition]
	}
	if err != nil {
		return err
	}
	return p.dropChunks(ctx, needed)
}

// oldestNeeded returns the first offset that is needed by a consumer of this
// database, or that is among the last KeepRecords.
func (p *publisher) oldestNeeded(ctx context.Context) (int64, error) {
	l := p.lead
	applied := l.published - p.cfg.KeepRecords
	if !l.consumers {
		return max(applied, 0) + 1, nil
	}
	rows, err := l.conn.Query(ctx, sqlCheckpoints, l.term.Partition, p.cfg.ConsumerExpiry.Seconds())
	if err != nil {
		return 0, fmt.Errorf("read the checkpoints: %w", err)
	}
	var name string
	var offset int64
	var expired bool
	_, err = pgx.ForEachRow(rows, []any{&name, &offset, &expired}, func() error {
		if !expired {
			applied = min(applied, offset)
		} else if !l.expired[name] {
			p.log.Warn("consumer has expired: nothing is kept for it any more",
				"consumer", name, "offset", offset, "expiry", p.cfg.ConsumerExpiry)
		}
		l.expired[name] = expired
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the checkpoints: %w", err)
	}
	return max(applied, 0) + 1, nil
}

// trimTo returns the last offset that the log need not keep.
func (p *publisher) trimTo(needed int64) int64 {
	l := p.lead
	return max(needed, l.published-logExcess*p.cfg.KeepRecords, l.chunks.Start()) - 1
}

// dropChunks drops the archive's first chunks while nobody needs them and they
// are past the retention. A dropped chunk leaves nothing to vacuum.
func (p *publisher) dropChunks(ctx context.Context, needed int64) error {
	l := p.lead
	for len(l.chunks) > 1 && l.chunks[0].Last < needed {
		c := l.chunks[0]
		var old bool
		err := l.conn.QueryRow(ctx, sqlOlderThan, l.term.Partition, c.Last, p.cfg.Retention.Seconds()).Scan(&old)
		if err != nil {
			return fmt.Errorf("read the age of an archive chunk: %w", err)
		}
		if !old {
			return nil
		}
		// The next leader goes by the database, and must not look for these.
		if err := l.record(ctx); err != nil {
			return err
		}
		err = archive.DropChunk(ctx, l.conn, l.term, c)
		if postgres.IsLockTimeout(err) {
			return nil // someone reads it: next time
		}
		if err != nil {
			return err
		}
		l.chunks = slices.Delete(l.chunks, 0, 1)
		p.log.Info("archive chunk dropped: past its retention and applied by every consumer", "first", c.First, "last", c.Last)
	}
	return nil
}

// rebuild brings back a log that has lost records: the next batches come from
// the archive, after the log's head. What no reader needs any more is left out,
// and then the log begins later, without a hole.
func (p *publisher) rebuild(ctx context.Context, head int64) error {
	l := p.lead
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	needed, err := p.oldestNeeded(ctx)
	if err != nil {
		return err
	}
	if upTo := p.trimTo(needed); head < upTo {
		err := l.awake(ctx, "reset the log", func(ctx context.Context) error { return p.cfg.Log.Reset(ctx, l.term, upTo) })
		if err != nil {
			return err
		}
		head = upTo
	}
	p.log.Warn("the log has lost records: publishing them again from the archive",
		"first", head+1, "last", l.published)
	l.published = head
	p.cfg.Observer.logLost(p.partition, head)
	return nil
}
