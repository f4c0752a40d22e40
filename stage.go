package unilog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Execer is what [Stage] needs of a transaction; a pgx.Tx is one.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// All insert records in the order in which they are given, so that their ids follow
// it. Each is one statement for any number of them. Few records have headers or bodies,
// and without them a record is cheaper.
const (
	sqlStage = `
INSERT INTO unilog.staged_records (action, object, key, data)
SELECT action, object, key, data::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS r (action, object, key, data)
WHERE ` + sqlIsUTF8

	sqlStageWithHeaders = `
INSERT INTO unilog.staged_records (action, object, key, data, headers)
SELECT action, object, key, data::jsonb, nullif(headers, '')::jsonb
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) AS r (action, object, key, data, headers)
WHERE ` + sqlIsUTF8

	sqlStageWithBodies = `
INSERT INTO unilog.staged_records (action, object, key, data, headers, body, content_type)
SELECT action, object, key, nullif(data, '')::jsonb, nullif(headers, '')::jsonb,
    CASE WHEN content_type <> '' THEN decode(body, 'hex') END, nullif(content_type, '')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
    AS r (action, object, key, data, headers, body, content_type)
WHERE ` + sqlIsUTF8

	// In a session of another encoding, other characters come than were sent.
	sqlIsUTF8 = `(pg_client_encoding() = 'UTF8' OR pg_client_encoding() = 'SQL_ASCII' AND getdatabaseencoding() = 'UTF8')`
)

// ErrNotStaged says that Postgres has not taken the records. The transaction is to be
// rolled back.
var ErrNotStaged = errors.New("unilog: the records were not staged: client_encoding must be UTF8 in the session that stages, " +
	"and no rule or trigger of the table staged_records may drop rows")

// Stage writes records on the caller's transaction, in one round trip. They
// reach the log if and only if that transaction commits.
//
// If a transaction committed before another began, its records come first in
// the log. The records of transactions that overlap follow the order of
// staging as far as they become visible together; so stage after the writes
// whose order matters, when the locks that decide it are held.
//
// A record that breaks a limit gives a [RecordError] before anything is sent,
// and none of the records is staged. After any other error the transaction is
// no longer usable, as after every failed statement. Where Postgres would change the
// text of records, or drops them, Stage returns [ErrNotStaged].
//
// Given something that is not a transaction, a connection or a pool, Stage
// commits at once and promises nothing about the caller's other writes.
//
// The log is the one in [DefaultSchema]; see [Schema.Stage] for another. [StageSQL] is
// for other drivers than pgx.
func Stage(ctx context.Context, tx Execer, records ...Record) error {
	return DefaultSchema.Stage(ctx, tx, records...)
}

// stage checks records and has exec stage them: it gets the statement and a column of
// values for each of its parameters, which are arrays of text, and returns how many rows
// it has inserted.
func (s Schema) stage(records []Record, exec func(statement string, columns [][]string) (int64, error)) error {
	if len(records) == 0 {
		return nil
	}
	headers := make([]string, len(records))
	statement, width := sqlStage, 4
	for i := range records {
		text, err := records[i].check()
		if err != nil {
			err.Index = i
			return err
		}
		headers[i] = text
		switch {
		case records[i].ContentType != "":
			statement, width = sqlStageWithBodies, 7
		case text != "" && width < 5:
			statement, width = sqlStageWithHeaders, 5
		}
	}
	columns := make([][]string, width)
	for c := range columns {
		columns[c] = make([]string, len(records))
	}
	for i := range records {
		r := &records[i]
		values := [7]string{r.Action, r.Object, r.Key, string(r.Data), headers[i], hex.EncodeToString(r.Body), r.ContentType}
		for c := range columns {
			columns[c][i] = values[c]
		}
	}
	inserted, err := exec(s.SQL(statement), columns)
	if err != nil {
		return fmt.Errorf("stage %d records: %w", len(records), err)
	}
	if inserted != int64(len(records)) {
		return ErrNotStaged
	}
	return nil
}
