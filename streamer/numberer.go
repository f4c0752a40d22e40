package streamer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
)

const (

	// sqlNumberMany is sqlNumber for several partitions. It runs in one transaction
	// after SQLLockHeads, so its snapshot has what the one before it did. Two at once
	// take turns and take different records: a leader that has been replaced does no
	// harm.
	//
	// The partition of a key is the first four bytes of its SHA-256 modulo the number
	// of active partitions: see [unilog.PartitionOf]. Publishers are told.
	//
	// Index: staged_log_records_pkey; log_partitions is a handful of rows.
	sqlNumberMany = `
WITH heads AS MATERIALIZED (
    SELECT partition, next_offset FROM log_partitions WHERE active
), moved AS (
    DELETE FROM staged_log_records AS s
    WHERE (SELECT count(*) FROM heads) > 1 AND s.ctid = ANY (ARRAY(
        SELECT place FROM (
            SELECT ctid AS place, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
            FROM staged_log_records
            WHERE id > $3
            ORDER BY id
            LIMIT $1
        ) AS oldest
        WHERE before < $2
    ))
    RETURNING s.*, CASE s.key
        WHEN '' THEN s.id
        ELSE ('x' || encode(substr(sha256(convert_to(s.key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
    END % (SELECT count(*) FROM heads) AS partition
), placed AS (
    INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
    SELECT h.partition, h.next_offset - 1 + row_number() OVER (PARTITION BY h.partition ORDER BY m.id),
        size, staged_at, action, object, key, data, headers
    FROM moved AS m JOIN heads AS h ON h.partition = m.partition
), advanced AS (
    UPDATE log_partitions AS p
    SET next_offset = p.next_offset + n.records, low_water = CASE p.partition WHEN 0 THEN $3 ELSE p.low_water END
    FROM (SELECT partition, count(*) AS records FROM moved GROUP BY partition) AS n
    WHERE p.partition = n.partition
    RETURNING pg_notify('log_records', p.partition::text)
)
SELECT count(*), coalesce(max(id), 0) FROM moved`

	sqlStaged = `SELECT (SELECT id FROM staged_log_records WHERE id > $1 ORDER BY id LIMIT 1) IS NOT NULL`
)

// numberer numbers for all partitions, on behalf of the leader of the first one
// and in a session of its own. What it numbers the publishers read from the archive.
type numberer struct {
	waiter
	cfg  Config
	log  *slog.Logger
	term unilog.Term // of the first partition

	limit      int
	numbered   []int64 // of each partition
	chunks     map[int]archive.Chunks
	lastUpkeep time.Time
	complaint  string

	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error
}

func (p *publisher) newNumberer(ctx context.Context) (*numberer, error) {
	pooled, err := p.cfg.DB.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	l := p.lead
	n := &numberer{
		waiter: waiter{conn: pooled.Hijack(), silence: l.silence, low: l.low, wakes: l.wakes},
		cfg:    p.cfg, log: p.log, term: l.term, limit: p.numberLimit,
	}
	_, err = n.conn.Exec(ctx, `SELECT $1::text, `+sqlSession, "", fmt.Sprint(l.silence.Milliseconds()))
	if err == nil {
		err = n.listen(ctx, p.cfg.DB, true)
	}
	if err == nil {
		n.chunks, err = archive.ListChunks(ctx, n.conn)
	}
	if err == nil {
		err = n.look(ctx)
	}
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("begin to number: %w", err)
	}
	return n, nil
}

// look reads how far each partition is numbered.
func (n *numberer) look(ctx context.Context) (err error) {
	rows, _ := n.conn.Query(ctx, archive.SQLNumbered)
	n.numbered, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	return err
}

// keepOn numbers from now on, until stop, and returns why it has ended, if it has.
func (n *numberer) keepOn() error {
	if n.done != nil {
		select {
		case <-n.done:
			return n.err
		default:
			return nil
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		n.err = n.run(ctx)
	}()
	return nil
}

// stop ends the numbering and its session.
func (n *numberer) stop() {
	if n.cancel != nil {
		n.cancel()
		<-n.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	if err := n.conn.Close(ctx); err != nil {
		n.log.Debug("the numbering session was lost", "err", err)
	}
}

func (n *numberer) run(ctx context.Context) error {
	idle := loop.Backoff{First: idleFirst, Most: idleMost}
	for ctx.Err() == nil {
		if time.Since(n.lastUpkeep) >= n.cfg.upkeepPause {
			n.upkeep(ctx)
		}
		moved, err := n.number(ctx, true)
		if err != nil {
			return err
		}
		if moved > 0 {
			idle.Reset()
			continue
		}
		if n.asleep {
			n.rest(ctx, &idle, min(n.silence/2, max(0, n.cfg.upkeepPause-time.Since(n.lastUpkeep))))
		} else {
			idle.Wait(ctx)
		}
	}
	return nil
}

// once numbers one batch, for RunOnce, which drives the numberer itself.
func (n *numberer) once(ctx context.Context) (moved int, err error) {
	if time.Since(n.lastUpkeep) >= n.cfg.upkeepPause {
		n.upkeep(ctx)
	}
	return n.number(ctx, false)
}

// number gives the oldest staged records their offsets, if there are any.
func (n *numberer) number(ctx context.Context, sleeps bool) (moved int, err error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if n.idle {
		staged := false
		err := n.waiter.look(ctx, sleeps, func(batch *pgx.Batch) {
			batch.Queue(sqlStaged, n.low.mark).QueryRow(func(row pgx.Row) error { return row.Scan(&staged) })
		})
		if err != nil {
			return 0, fmt.Errorf("look for staged records: %w", err)
		}
		if !staged {
			n.low.passedAll()
			return 0, nil
		}
	}
	if err := n.getUp(ctx); err != nil {
		return 0, err
	}
	for i, numbered := range n.numbered {
		cs := n.chunks[i]
		err := cs.EnsureRoom(ctx, n.conn, n.term, i, numbered, int64(n.limit), n.cfg.chunkRecords)
		if n.chunks[i] = cs; err != nil {
			return 0, err
		}
	}
	var last int64
	batch := &pgx.Batch{}
	batch.Queue(archive.SQLLockHeads)
	batch.Queue(sqlNumberMany, n.limit, archive.BatchBytes, n.low.mark).QueryRow(func(row pgx.Row) error {
		return row.Scan(&moved, &last)
	})
	batch.Queue(archive.SQLNumbered).Query(func(rows pgx.Rows) (err error) {
		n.numbered, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err := n.conn.SendBatch(ctx, batch).Close(); err != nil {
		if tookTooLong(err) {
			n.limit = max(1, n.limit/2)
		}
		return 0, fmt.Errorf("number staged records: %w", err)
	}
	n.idle = moved == 0 // the next look says whether nothing is staged
	n.low.passed(last)
	if moved > 0 {
		n.limit = min(n.limit+n.limit/8+1, n.cfg.BatchRecords)
	}
	return moved, nil
}

// upkeep makes room in the archive and moves the low-water mark. What fails is
// reported and tried again.
func (n *numberer) upkeep(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	n.lastUpkeep = time.Now()
	err := n.low.move(ctx, n.conn, n.cfg.DB)
	for i, numbered := range n.numbered {
		cs := n.chunks[i]
		err = errors.Join(err, cs.AddAhead(ctx, n.conn, n.term, i, numbered, n.cfg.chunkRecords))
		n.chunks[i] = cs
	}
	complaint := ""
	if err != nil {
		complaint = loop.OneLine(err).Error()
	}
	if complaint != "" && complaint != n.complaint {
		n.log.Warn("upkeep failed: records are numbered all the same", "err", complaint)
	}
	n.complaint = complaint
}
