package streamer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
)

const (
	// smallRecords and smallBytes are what a batch is below that is merged with its
	// neighbours.
	smallRecords, smallBytes = 200, 64 << 10
	// mergeBatches is how many small neighbours are merged at once, and mergeBytes how
	// many bytes they may have at the most.
	mergeBatches, mergeBytes = 200, 1 << 20
)

// merging are small batches of a partition that follow each other.
type merging struct {
	partition   int
	after, upTo int64 // the offset before the first of them, and the last one's last
	batches     int
	bytes       int
}

// noteBatch notes a batch that was added to the archive.
func (n *numberer) noteBatch(b numbered) {
	m := n.merging[b.partition]
	isSmall := b.batch.bytes < smallBytes && b.last-b.first+1 < smallRecords
	if isSmall {
		if m.batches == 0 {
			m = merging{partition: b.partition, after: b.first - 1}
		}
		m.upTo, m.batches, m.bytes = b.last, m.batches+1, m.bytes+b.batch.bytes
	}
	if !isSmall || m.batches >= mergeBatches || m.bytes >= mergeBytes {
		if m.batches > 1 {
			n.toMerge = append(n.toMerge, m)
		}
		m = merging{}
	}
	n.merging[b.partition] = m
}

// merge makes one batch of small neighbours where there are enough of them.
func (n *numberer) merge(ctx context.Context) error {
	for len(n.toMerge) > 0 {
		m := n.toMerge[0]
		err := n.alter(ctx, func(ctx context.Context, tx pgx.Tx) error {
			return archive.Merge(ctx, tx, n.cfg.Schema, m.partition, m.after, m.upTo)
		})
		if err != nil {
			return err
		}
		n.toMerge = n.toMerge[1:]
	}
	return nil
}

// alter changes the archive, if the term lasts.
func (n *numberer) alter(ctx context.Context, f func(ctx context.Context, tx pgx.Tx) error) error {
	return n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, n.cfg.Schema.SQL(locks.SQLNumbering)); err != nil {
				return err
			}
			var epoch int64
			if err := tx.QueryRow(ctx, n.cfg.Schema.SQL(`SELECT epoch FROM unilog.log`)).Scan(&epoch); err != nil {
				return err
			}
			if epoch != n.epoch {
				return errNumbersElsewhere
			}
			return f(ctx, tx)
		})
	})
}

// upkeep looks after what no record asks for: the low-water mark, small batches, and
// those that nobody needs. What fails is reported and tried again: records are numbered
// all the same, unless their ids are no longer in order.
func (n *numberer) upkeep(ctx context.Context) error {
	n.upkeptAt = time.Now()
	complaint := ""
	note := func(err error) {
		if err != nil && complaint == "" {
			complaint = loop.OneLine(err).Error()
		}
	}
	note(n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if err := n.low.look(ctx, conn, n.cfg.Schema); err != nil {
			return err
		}
		return n.low.save(ctx, conn, n.cfg.Schema, n.epoch)
	}))
	note(n.low.sweep(ctx, n.cfg.DB, n.cfg.Schema))
	if n.low.strays != "" {
		n.log.Warn(n.low.strays + ": what is staged is looked for from the first id, and may be numbered after what was staged later")
		n.low.strays = ""
	}
	note(n.merge(ctx))
	if time.Since(n.deletedAt) >= seldom*n.cfg.upkeepPause {
		n.deletedAt = time.Now()
		note(n.deleteOld(ctx))
		if err := n.checkSequence(ctx); needsDecision(err) {
			return err
		}
	}
	if complaint != "" && complaint != n.complaint {
		n.log.Warn("upkeep failed: records are numbered all the same", "err", complaint)
	}
	n.complaint = complaint
	return nil
}

// deleteOld deletes what nobody needs of the archive and is past its retention.
func (n *numberer) deleteOld(ctx context.Context) error {
	const most = 20 // steps at a time
	needs, err := n.cfg.rule().Look(ctx, n.cfg.DB)
	if err != nil {
		return err
	}
	if n.rests(needs.Now) {
		return nil
	}
	needed := map[int]int64{}
	for p, need := range needs.Partitions {
		if first := n.cfg.rule().Archived(need); first > 1 {
			needed[p] = first
		}
	}
	for more, i := len(needed) > 0, 0; more && i < most; i++ {
		err := n.alter(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			more, err = archive.Delete(ctx, tx, n.cfg.Schema, needed, n.cfg.Retention)
			return err
		})
		if err != nil {
			return fmt.Errorf("tidy the archive: %w", err)
		}
	}
	return nil
}

// rests says whether nothing is to be deleted yet, since the database's clock has jumped.
func (n *numberer) rests(now time.Time) bool {
	rest, jumped := n.cfg.watch.Rests(now, time.Now(), n.cfg.Retention)
	if jumped > 0 {
		n.log.Warn("the database's clock has jumped ahead: nothing is deleted from the archive until the retention is over by this process's clock",
			"jump", jumped, "wait", rest)
	}
	return rest > 0
}
