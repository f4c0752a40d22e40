package unilog

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strings"
)

// DefaultSchema is the schema of Postgres that a log's tables are in unless another
// one is asked for.
const DefaultSchema Schema = "unilog"

// Schema names the schema of Postgres that a log's tables are in. The zero value is
// [DefaultSchema]. Several logs can live in one database, each in a schema of its
// own; their records, locks and notifications have nothing to do with each other.
type Schema string

// Of a to z, so that no two names differ by their case alone. Its length leaves room
// for the names of channels, of which Postgres takes 63 bytes.
var schemaNames = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// Name returns the schema's name.
func (s Schema) Name() string { return string(cmp.Or(s, DefaultSchema)) }

// Check returns an error if no log can be in a schema of this name.
func (s Schema) Check() error {
	if !schemaNames.MatchString(s.Name()) || strings.HasPrefix(s.Name(), "pg_") {
		return fmt.Errorf("unilog: the schema's name is %q: it must be of a to z, 0 to 9 and _, at most 40 characters, not begin with a digit and not with pg_", string(s))
	}
	return nil
}

// SQL returns a statement that is written for the tables of [DefaultSchema] for those
// of s: it puts the quoted name in place of each "unilog." and, in the names of
// channels, the name itself in place of each "unilog:".
func (s Schema) SQL(statement string) string {
	if s == "" || s == DefaultSchema {
		return statement
	}
	quoted := `"` + strings.ReplaceAll(string(s), `"`, `""`) + `"`
	return strings.NewReplacer("unilog.", quoted+".", "unilog:", string(s)+":").Replace(statement)
}

// Stage is [Stage] for the log in this schema.
func (s Schema) Stage(ctx context.Context, tx Execer, records ...Record) error {
	return s.stage(records, func(statement string, columns [][]string) (int64, error) {
		args := make([]any, len(columns))
		for i, values := range columns {
			args[i] = values
		}
		tag, err := tx.Exec(ctx, statement, args...)
		return tag.RowsAffected(), err
	})
}

// StageSQL is [StageSQL] for the log in this schema.
func (s Schema) StageSQL(ctx context.Context, tx SQLExecer, records ...Record) error {
	return s.stage(records, func(statement string, columns [][]string) (int64, error) {
		args := make([]any, len(columns))
		for i, values := range columns {
			args[i] = textArray(values)
		}
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return 0, err
		}
		return result.RowsAffected()
	})
}
