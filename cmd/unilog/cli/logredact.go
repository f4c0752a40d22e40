package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/redaction"
)

// LogRedact erases what records hold.
type LogRedact struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	Partition     *int          `arg:"" optional:"" help:"Their partition."`
	Offsets       []int64       `arg:"" optional:"" help:"Their offsets."`
	Key           string        `help:"All records of this key, in the archive and in dead letters, instead."`
	Reason        string        `required:"" help:"Why: it is kept in the table redactions for ever."`
	Replace       string        `placeholder:"JSON" default:"{\"redacted\":true}" help:"What comes in the place of the data."`
	EraseKey      bool          `help:"Erase the key, too. Who searches by it finds the records no more."`
	Unapplied     bool          `help:"Also what consumers of this database have not applied, or have parked: they get the replacement, and audits find what they lack."`
	JSON          bool          `name:"json" help:"Print what was done as JSON."`
	Timeout       time.Duration `default:"10m" help:"Give up when it takes longer. What is erased by then stays so; it can be run again."`
}

// Help follows the flags' own help.
func (LogRedact) Help() string {
	return `A record keeps its offset, its object and its action. Its data is replaced, its headers are erased, in the archive, in dead letters of this database and in the log. The log of its partition is emptied for that and published again from the archive by the streamer, which has to run; so the user of Redis or Kafka needs the rights of a streamer's. Nobody can undo it.

What consumers have made of a record stays, and so does what databases of consumers elsewhere hold of it, and backups, WAL and logs that were moved away from. Kafka keeps the old entries in its files until their segment is deleted, though no reader gets them. This is done by the owner of the tables.`
}

// Validate refuses both ways to say which records, and neither.
func (c *LogRedact) Validate() error {
	switch {
	case c.Key != "" && c.Partition != nil:
		return errors.New("--key is of every partition and offset: give either it or PARTITION OFFSET")
	case c.Key == "" && len(c.Offsets) == 0:
		return errors.New("which records? Give PARTITION OFFSET, or --key")
	case !json.Valid([]byte(c.Replace)):
		return errors.New("--replace is not JSON")
	case len(c.Replace) > unilog.MaxRecordBytes/2:
		return fmt.Errorf("--replace has %d bytes: it must have %d at the most", len(c.Replace), unilog.MaxRecordBytes/2)
	}
	for _, offset := range c.Offsets {
		if offset < 1 {
			return fmt.Errorf("the offset is %d: offsets begin at 1", offset)
		}
	}
	return nil
}

// Run says what was done, and where the data may be all the same.
func (c *LogRedact) Run(ctx context.Context, p *Program) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	log, err := c.LogFlags.Open(ctx, p, db, c.Schema)
	if err != nil {
		return fmt.Errorf("nothing is redacted: %w", err)
	}
	defer log.Close()
	places, err := c.places(ctx, p, db)
	if err != nil {
		return err
	}
	to := unilog.Log(log)
	_, isArchive := held(log).(*pglog.Log)
	if isArchive {
		to = nil
	}
	report, err := redaction.Redact(ctx, db, c.Schema, to, places, redaction.Order{
		Reason: c.Reason, Replacement: json.RawMessage(c.Replace), EraseKey: c.EraseKey, Unapplied: c.Unapplied,
	})
	if unapplied := new(redaction.UnappliedError); errors.As(err, &unapplied) {
		return fmt.Errorf("%w: wait for it or see to it first, or add --unapplied: it then gets the replacement", unapplied)
	}
	if err = confirmed(ctx, db, err); err != nil {
		return Unanswered(err, MoreTime)
	}
	_, isKafka := held(log).(*kafkalog.Log)
	return c.say(report, engineName(log), isArchive, isKafka)
}

// sqlParkedOf lists where dead letters of a key are. Index: the table is read whole.
const sqlParkedOf = `SELECT DISTINCT partition, "offset" FROM unilog.dead_letters WHERE key = $1`

// places are those of the records that are meant.
func (c *LogRedact) places(ctx context.Context, p *Program, db *pgxpool.Pool) (places []redaction.Place, err error) {
	now, err := lookAtLog(ctx, db, c.Schema)
	if err != nil {
		return nil, err
	}
	if c.Key == "" {
		if _, err := now.in(*c.Partition); err != nil {
			return nil, err
		}
		for _, offset := range c.Offsets {
			places = append(places, redaction.Place{Partition: *c.Partition, Offset: offset})
		}
		return places, nil
	}
	s := search{db: db, schema: c.Schema, now: now, key: c.Key, since: time.Unix(0, 0), until: now.now.AddDate(100, 0, 0)}
	err = s.run(ctx, func(e *unilog.Entry) error {
		places = append(places, redaction.Place{Partition: e.Partition, Offset: e.Offset})
		return nil
	})
	if err != nil {
		return nil, err
	}
	var consumers bool
	if err := db.QueryRow(ctx, c.Schema.SQL(sqlHasConsumers)).Scan(&consumers); err != nil {
		return nil, fmt.Errorf("look for dead letters: %w", err)
	}
	if consumers {
		rows, _ := db.Query(ctx, c.Schema.SQL(sqlParkedOf), c.Key)
		parked, err := pgx.CollectRows(rows, pgx.RowToStructByPos[redaction.Place])
		if err != nil {
			return nil, fmt.Errorf("look for dead letters: %w", err)
		}
		places = append(places, parked...)
	}
	if len(places) > 0 {
		return places, nil
	}
	unfinished, err := redaction.Unfinished(ctx, db, c.Schema)
	if err == nil && unfinished == 0 {
		err = fmt.Errorf("no record has the key %q in the archive or in dead letters: see `%s log find`", c.Key, p.Name)
	}
	if err == nil {
		note("no record has the key %q in the archive or in dead letters; %d are redacted there and may be in the log still, which is finished now", c.Key, unfinished)
	}
	return nil, err
}

func (c *LogRedact) say(report redaction.Report, engine string, isArchive, isKafka bool) error {
	if c.JSON {
		return json.NewEncoder(os.Stdout).Encode(map[string]any{
			"archive": report.Archived, "dead_letters": report.Parked, "partitions_published_again": append([]int{}, report.Emptied...),
		})
	}
	fmt.Printf("redacted: %d in the archive, %d in dead letters\n", report.Archived, report.Parked)
	if report.Archived == 0 {
		fmt.Println("the archive has dropped all of them, or had redacted them before")
	}
	switch {
	case isArchive:
		fmt.Println("the log: is the archive itself")
	case len(report.Emptied) == 0:
		fmt.Printf("the log: %s did not have it any more\n", engine)
	default:
		fmt.Printf("the log: %s was emptied in partitions %v, and has what the archive has again\n", engine, report.Emptied)
	}
	if isKafka {
		fmt.Println("Kafka: its files keep the old entries, which no reader gets, until it deletes their segment (segment.ms, retention.ms of the topic)")
	}
	fmt.Println("elsewhere: what consumers have made of it stays, and so do backups and WAL until they are gone")
	return nil
}
