package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

// LogGet shows one entry.
type LogGet struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	Partition     int           `arg:"" help:"Its partition."`
	Offset        int64         `arg:"" help:"Its offset."`
	JSON          bool          `name:"json" help:"Print it as JSON."`
	Timeout       time.Duration `default:"1m" help:"Give up when it takes longer."`
}

// Help follows the flags' own help.
func (LogGet) Help() string {
	return "It comes from the archive, or from the log itself if the archive has it no more."
}

// Validate refuses what no entry has.
func (c *LogGet) Validate() error {
	if c.Offset < 1 {
		return fmt.Errorf("the offset is %d: offsets begin at 1", c.Offset)
	}
	return nil
}

// Run fails, and says why, if there is no such entry.
func (c *LogGet) Run(ctx context.Context, p *Program) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	return unlessGone(Unanswered(c.get(ctx, p, db), MoreTime))
}

func (c *LogGet) get(ctx context.Context, p *Program, db *pgxpool.Pool) error {
	now, err := lookAtLog(ctx, db, c.Schema)
	if err != nil {
		return err
	}
	at, err := now.in(c.Partition)
	if err != nil {
		return err
	}
	if c.Offset > at.Numbered {
		return fmt.Errorf("there is no offset %d in partition %d yet: the head is %d", c.Offset, c.Partition, at.Numbered)
	}
	e, from, err := c.find(ctx, p, db, now)
	if err != nil {
		return err
	}
	was, err := redactedAt(ctx, db, c.Schema, c.Partition, c.Offset)
	if err != nil {
		return err
	}
	if c.JSON {
		s := shown(e)
		s.From, s.Redacted = from, was
		return newEntryPrinter(true).json(s)
	}
	return printEntry(e, from, was)
}

// find returns the entry, and what has given it.
func (c *LogGet) find(ctx context.Context, p *Program, db *pgxpool.Pool, now logNow) (e *unilog.Entry, from string, err error) {
	entries, err := archive.Read(ctx, db, c.Schema, c.Partition, c.Offset-1, c.Offset, 1)
	if err != nil {
		return nil, "", err
	}
	if len(entries) > 0 {
		return &entries[0], "archive", nil
	}
	first, err := archive.First(ctx, db, c.Schema, c.Partition)
	if err != nil {
		return nil, "", err
	}
	log, err := c.LogFlags.Open(ctx, p, db, c.Schema)
	if err != nil {
		return nil, "", fmt.Errorf("the archive of partition %d begins at %d, and the log cannot be asked: %w", c.Partition, first, err)
	}
	defer log.Close()
	entries, err = log.Read(ctx, c.Partition, unilog.Cursor{Offset: c.Offset - 1}, 1, 0)
	if err != nil && !errors.Is(err, unilog.ErrUnreadable) {
		return nil, "", fmt.Errorf("read the log: %w", err)
	}
	head, err := log.Head(ctx, c.Partition)
	if err != nil {
		return nil, "", fmt.Errorf("read the log's head: %w", err)
	}
	switch {
	case head.LogID != "" && head.LogID != now.id:
		return nil, "", &unilog.ForeignLogError{Partition: c.Partition, LogID: now.id, Theirs: head.LogID}
	case len(entries) > 0 && entries[0].Offset == c.Offset:
		return &entries[0], "log", nil
	case first <= c.Offset:
		return nil, "", fmt.Errorf("the archive of partition %d has lost offset %d: put that row of its table batches back; the log has it no more", c.Partition, c.Offset)
	}
	return nil, "", fmt.Errorf("offset %d of partition %d was dropped: the archive begins at %d", c.Offset, c.Partition, first)
}

// printEntry writes all of an entry, a field a line.
func printEntry(e *unilog.Entry, from string, was *redacted) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "partition\t%d\noffset\t%d\nstaged at\t%s\nrecord\t%s\n", e.Partition, e.Offset, e.StagedAt.Local().Format("2006-01-02 15:04:05.000000 -07:00"), printable(recordOf(e)))
	if e.Key != "" {
		fmt.Fprintf(w, "key\t%s\n", printable(e.Key))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		fmt.Fprintf(w, "header\t%s=%s\n", printable(name), printable(e.Headers[name]))
	}
	if was != nil {
		fmt.Fprintf(w, "redacted\t%s by %s: %s\n", was.At.Local().Format(time.DateTime), printable(was.By), printable(was.Reason))
	}
	fmt.Fprintf(w, "from\tthe %s\ndata\t%s\n", from, printable(payloadOf(e)))
	return gone(w.Flush())
}

// redacted says when, by whom and why a record was redacted.
type redacted struct {
	At     time.Time `json:"at"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
}

// Index: redactions_pkey.
const sqlRedactedAt = `SELECT redacted_at, redacted_by, reason FROM unilog.redactions WHERE partition = $1 AND "offset" = $2`

// redactedAt returns nil if the record was not.
func redactedAt(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, partition int, offset int64) (*redacted, error) {
	rows, _ := db.Query(ctx, schema.SQL(sqlRedactedAt), partition, offset)
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[redacted])
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}
