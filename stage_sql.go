package unilog

import (
	"context"
	"database/sql"
)

// SQLExecer is what [StageSQL] needs of a transaction; a *sql.Tx is one, and so are those
// of many libraries on top of database/sql.
type SQLExecer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// StageSQL is [Stage] for a transaction of database/sql, of any driver for Postgres, or of
// a library on top of it: it promises and returns the same. It is one statement, with
// nothing but strings as its parameters.
//
// The transaction must hand the statement on as it is, with $1 for the first parameter.
// One that has placeholders of its own, as bun has, usually embeds a *sql.Tx: give that.
//
// The log is the one in [DefaultSchema]; see [Schema.StageSQL] for another.
func StageSQL(ctx context.Context, tx SQLExecer, records ...Record) error {
	return DefaultSchema.StageSQL(ctx, tx, records...)
}

// textArray writes values as Postgres reads an array of text. Not every driver takes a
// []string.
func textArray(values []string) string {
	size := len("{}")
	for _, v := range values {
		size += len(v) + len(v)/4 + len(`"",`)
	}
	text := append(make([]byte, 0, size), '{')
	for i, v := range values {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, '"')
		for j := range len(v) {
			if v[j] == '"' || v[j] == '\\' {
				text = append(text, '\\')
			}
			text = append(text, v[j])
		}
		text = append(text, '"')
	}
	return string(append(text, '}'))
}
