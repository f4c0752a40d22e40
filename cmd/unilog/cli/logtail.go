package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// LogTail shows the log's last entries, of all partitions.
type LogTail struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	KindFlags     `embed:""`
	Key           string  `help:"Only records of this key."`
	Last          *int    `short:"n" placeholder:"N" help:"So many of the last entries: 10, if not set, and all of them with --since."`
	Since         *Moment `placeholder:"TIME" help:"Those staged since then: a time, or a duration before now, as 15m."`
	Follow        bool    `short:"f" help:"Go on with what comes, until Ctrl-C."`
	JSON          bool    `name:"json" help:"Print each entry whole, as a line of JSON."`
}

const (
	// lastDefault is how many entries are shown if nobody says.
	lastDefault = 10
	// lookBack is how many entries of a partition are looked at for those that a filter
	// lets through.
	lookBack = 10_000
)

// Help follows the flags' own help.
func (LogTail) Help() string {
	return fmt.Sprintf(`An entry is a line: its partition and offset, when it was staged, what it is a record of, its key, and its data as far as the terminal is wide. It is read from the log, and what the log has lost or trimmed from the archive. No checkpoint is written, and nobody else notices.

With --only or --key, the last %d entries of each partition are looked at: `+"`${program} log find`"+` searches all of the archive.`, lookBack)
}

// Validate refuses what is no number of entries.
func (c *LogTail) Validate() error {
	if c.Last != nil && *c.Last < 0 {
		return fmt.Errorf("-n is %d: it must be 0 or more", *c.Last)
	}
	return c.KindFlags.Validate()
}

func (c *LogTail) runsUntilTold() bool { return c.Follow }

// Run ends at the log's head, or with --follow when ctx does.
func (c *LogTail) Run(ctx context.Context, p *Program) error {
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	log, err := c.LogFlags.Open(ctx, p, db, c.Schema)
	if err != nil {
		return err
	}
	defer log.Close()
	now, err := lookAtLog(ctx, db, c.Schema)
	if err != nil {
		return err
	}
	t := &tail{LogTail: c, db: db, log: log, now: now, printer: newEntryPrinter(c.JSON), last: lastDefault}
	if t.kinds, err = c.kinds(); err != nil {
		return err
	}
	switch {
	case c.Last != nil:
		t.last = *c.Last
	case c.Since != nil:
		t.last = -1
	}
	err = t.catchUp(ctx)
	if err == nil && c.Follow {
		err = t.follow(ctx)
	}
	return unlessGone(err)
}

// tail is a LogTail that runs.
type tail struct {
	*LogTail
	db      *pgxpool.Pool
	log     unilog.Log
	now     logNow
	kinds   []unilog.Kind
	since   time.Time
	last    int // -1 for all
	printer *entryPrinter
}

func (t *tail) wants(e *unilog.Entry) bool {
	return unilog.IncludedIn(t.kinds, &e.Record) && (t.Key == "" || e.Key == t.Key) && !e.StagedAt.Before(t.since)
}

// sqlNumberedBefore returns the last offset of a partition that was numbered before a
// time, and so staged before it. Index: batches_pkey, from the head on.
const sqlNumberedBefore = `
SELECT coalesce((
    SELECT last_offset FROM unilog.batches WHERE partition = $1 AND numbered_at < $2 ORDER BY last_offset DESC LIMIT 1
), (SELECT first_offset - 1 FROM unilog.batches WHERE partition = $1 ORDER BY last_offset LIMIT 1), $3)`

// begin is the offset after which a partition is looked at.
func (t *tail) begin(ctx context.Context, p partitionNow) (after int64, err error) {
	switch {
	case t.Since != nil:
		err := t.db.QueryRow(ctx, t.Schema.SQL(sqlNumberedBefore), p.Partition, t.since, p.Published).Scan(&after)
		if err != nil {
			return 0, fmt.Errorf("look for the time: %w", postgres.Explain(err))
		}
		return min(after, p.Published), nil
	case len(t.kinds) > 0 || t.Key != "":
		return max(0, p.Published-lookBack), nil
	}
	return max(0, p.Published-int64(t.last)), nil
}

// catchUp prints what there is.
func (t *tail) catchUp(ctx context.Context) error {
	if t.last == 0 {
		return nil
	}
	if t.Since != nil {
		t.since = t.Since.after(t.now.now)
	}
	var sources []*place
	for _, p := range t.now.partitions {
		after, err := t.begin(ctx, p)
		if err != nil {
			return err
		}
		sources = append(sources, t.place(p.Partition, after, p.Published))
	}
	var kept []unilog.Entry
	err := merge(ctx, sources, func(e *unilog.Entry) error {
		switch {
		case !t.wants(e):
			return nil
		case t.last < 0:
			return t.printer.print(e)
		case len(kept) == t.last:
			copy(kept, kept[1:])
			kept = kept[:len(kept)-1]
		}
		kept = append(kept, *e)
		return nil
	})
	for i := range kept {
		if err == nil {
			err = t.printer.print(&kept[i])
		}
	}
	return err
}

// merge gives what the places have in the order in which it was staged, as far as each
// of them is in that order.
func merge(ctx context.Context, places []*place, each func(*unilog.Entry) error) error {
	heads := make([][]unilog.Entry, len(places))
	for {
		next := -1
		for i, p := range places {
			var err error
			if len(heads[i]) == 0 {
				if heads[i], err = p.upToEnd(ctx); err != nil {
					return err
				}
			}
			if len(heads[i]) > 0 && (next < 0 || heads[i][0].StagedAt.Before(heads[next][0].StagedAt)) {
				next = i
			}
		}
		if next < 0 {
			return nil
		}
		e := &heads[next][0]
		heads[next] = heads[next][1:]
		if err := each(e); err != nil {
			return err
		}
	}
}

// follow prints what comes, until ctx ends.
func (t *tail) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var readers sync.WaitGroup
	defer readers.Wait()
	defer cancel(nil)
	came := make(chan []unilog.Entry)
	begun := 0
	begin := func(count int, after func(partition int) int64) {
		for ; begun < count; begun++ {
			p := t.place(begun, after(begun), 0)
			readers.Go(func() { p.follow(ctx, came, cancel) })
		}
	}
	begin(len(t.now.partitions), func(partition int) int64 { return t.now.partitions[partition].Published })
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case entries := <-came:
			for i := range entries {
				if t.wants(&entries[i]) {
					if err := t.printer.print(&entries[i]); err != nil {
						return err
					}
				}
			}
		case <-look.C:
			count := t.look(ctx)
			if count > begun {
				note("the log has %d partitions now (%d before)", count, begun)
			}
			begin(count, func(int) int64 { return 0 })
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// look says where the log has moved, and returns how many partitions there are; 0 if
// that is not to be had now.
func (t *tail) look(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var l logNow
	err := t.db.QueryRow(ctx, t.Schema.SQL(sqlLogNow)).Scan(&l.id, &l.active, &l.now, &l.generation, &l.url, &l.count)
	if err != nil {
		return 0 // the readers say what is wrong
	}
	if l.generation != t.now.generation {
		note("the log has moved, and this goes on there: %s", shownURL(l.url))
		t.now.generation = l.generation
	}
	return l.count
}

// isFatal says whether a reader cannot go on by itself.
func isFatal(err error) bool {
	return errors.As(err, new(*unilog.ForeignLogError)) || errors.As(err, new(*unilog.FormatError)) || errors.As(err, new(*unilog.LogAheadError)) || errors.Is(err, pgx.ErrNoRows)
}
