package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
)

// LogStage stages records.
type LogStage struct {
	DatabaseFlags `embed:""`
	Object        string            `help:"The kind of thing that something happened to. Required, but for lines that have it."`
	Action        string            `help:"What happened to it. Required, but for lines that have it."`
	Key           string            `help:"The thing itself: records of one key stay in order."`
	Header        map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"A header. It can be given several times."`
	Data          string            `xor:"data" placeholder:"JSON" help:"The data."`
	DataFile      string            `xor:"data" placeholder:"FILE" help:"A file that has the data; - for the standard input."`
	ContentType   string            `placeholder:"TYPE" help:"What the data is, as application/x-protobuf. It is staged as it is then, as a body."`
	Lines         bool              `xor:"data" help:"Stage many: each line of the standard input is a record, as {\"object\":…, \"action\":…, \"key\":…, \"headers\":{…}, \"data\":…}, with a body in base 64 and a content_type in the place of data for what is not JSON. What it lacks it has from the flags."`
	Timeout       time.Duration     `default:"1m" help:"Give up when it takes longer."`
}

// Help follows the flags' own help.
func (LogStage) Help() string {
	return `All records are staged in one transaction, or none of them if one cannot be. They are the log's alone: what a service writes beside its records it has to write itself.`
}

// Validate refuses what says too little.
func (c *LogStage) Validate() error {
	switch {
	case c.Lines && c.ContentType != "":
		return errors.New("--content-type is for --data and --data-file: each line has a content_type of its own")
	case c.Lines:
		return nil
	case c.Object == "" || c.Action == "":
		return errors.New("--object and --action are required")
	case c.Data == "" && c.DataFile == "":
		return errors.New("which data? Give --data, --data-file or --lines")
	}
	return nil
}

// Run prints how many were staged.
func (c *LogStage) Run(ctx context.Context, p *Program) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	next, err := c.records()
	if err != nil {
		return err
	}
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	var n int
	ended := make(chan error, 1)
	go func() { // which may wait for input that does not come
		var err error
		n, err = c.stage(ctx, db, next)
		ended <- confirmed(ctx, db, err)
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return Unanswered(err, "give it more with --timeout, if it is the input that is slow; nothing is staged")
	}
	fmt.Printf("staged %d %s\n", n, map[bool]string{true: "record", false: "records"}[n == 1])
	return nil
}

// source gives one record after the other, with where it stands, and then io.EOF.
type source func() (r unilog.Record, where string, err error)

// records are those that are asked for.
func (c *LogStage) records() (source, error) {
	if c.Lines {
		return c.lines(os.Stdin), nil
	}
	record, flag := c.record(), "--data"
	data := []byte(c.Data)
	if c.DataFile != "" {
		flag = "--data-file"
		var err error
		if data, err = readFile(c.DataFile); err != nil {
			return nil, fmt.Errorf("--data-file: %w", err)
		}
	}
	record.SetPayload(data, c.ContentType)
	given := false
	return func() (unilog.Record, string, error) {
		if given {
			return unilog.Record{}, "", io.EOF
		}
		given = true
		return record, flag, nil
	}, nil
}

// record is what the flags say.
func (c *LogStage) record() unilog.Record {
	return unilog.Record{Object: c.Object, Action: c.Action, Key: c.Key, Headers: c.Header}
}

func readFile(name string) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, unilog.MaxRecordBytes+1))
	if err == nil && len(data) > unilog.MaxRecordBytes {
		err = fmt.Errorf("it has more than %d bytes", unilog.MaxRecordBytes)
	}
	return data, err
}

// lineBytes bounds a line: a record with each of its characters escaped.
const lineBytes = 8 * unilog.MaxRecordBytes

// lines reads records from lines of JSON. Empty lines are passed over.
func (c *LogStage) lines(in io.Reader) source {
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, lineBytes)
	n := 0
	return func() (unilog.Record, string, error) {
		for scan.Scan() {
			n++
			where := fmt.Sprintf("line %d", n)
			if len(bytes.TrimSpace(scan.Bytes())) == 0 {
				continue
			}
			r, err := c.line(scan.Bytes())
			return r, where, err
		}
		err := scan.Err()
		switch {
		case err == nil:
			err = io.EOF
		case errors.Is(err, bufio.ErrTooLong):
			err = fmt.Errorf("it has more than %d bytes", lineBytes)
		}
		return unilog.Record{}, fmt.Sprintf("line %d", n+1), err
	}
}

func (c *LogStage) line(text []byte) (r unilog.Record, err error) {
	var l struct {
		Object, Action, Key *string
		Headers             map[string]string
		Data                json.RawMessage
		Body                []byte
		ContentType         string `json:"content_type"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&l); err != nil {
		return r, fmt.Errorf("it must be one JSON object with object, action, key, headers, and data or body and content_type: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return r, errors.New("it must be one JSON object, and more follows it")
	}
	r = c.record()
	for of, is := range map[*string]*string{&r.Object: l.Object, &r.Action: l.Action, &r.Key: l.Key} {
		if is != nil {
			*of = *is
		}
	}
	if l.Headers != nil {
		r.Headers = l.Headers
	}
	r.Data, r.Body, r.ContentType = l.Data, l.Body, l.ContentType
	if r.ContentType != "" && r.Body == nil {
		r.Body = []byte{}
	}
	return r, nil
}

// How much is staged in a round trip.
const (
	stageRecords = 1000
	stageBytes   = 4 << 20
)

// stage stages all that next gives, in one transaction.
func (c *LogStage) stage(ctx context.Context, db *pgxpool.Pool, next source) (staged int, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for more := true; more; {
			var records []unilog.Record
			var places []string
			for size := 0; len(records) < stageRecords && size < stageBytes; {
				r, where, err := next()
				if errors.Is(err, io.EOF) {
					more = false
					break
				}
				if err != nil {
					return fmt.Errorf("%s: %w", where, err)
				}
				records, places, size = append(records, r), append(places, where), size+r.Size()
			}
			err := c.Schema.Stage(ctx, tx, records...)
			if wrong := new(unilog.RecordError); errors.As(err, &wrong) {
				return fmt.Errorf("%s: %s %w", places[wrong.Index], strings.ToLower(wrong.Field), wrong.Err)
			}
			if err != nil {
				return err
			}
			staged += len(records)
		}
		return nil
	})
	if err != nil && c.Lines {
		err = fmt.Errorf("nothing is staged: %w", err)
	}
	return staged, err
}
