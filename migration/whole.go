package migration

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// IncompleteError says what is missing of a database's tables although their versions
// are right, as after a partial restore, or when somebody has emptied them.
type IncompleteError struct {
	// Missing says of each thing that is missing what it is.
	Missing []string
	// Mends says that [Mend] puts all of it back.
	Mends bool
	// Emptied says that nothing is left of the log, so that [Mend] begins a new one.
	Emptied bool

	ofLog     bool // something is missing that a new log would have
	elsewhere bool // all of it is in another schema
}

func (e *IncompleteError) Error() string {
	missing := strings.Join(e.Missing, ", ")
	switch {
	case e.elsewhere:
		return missing + ": set search_path for the role, or in DATABASE_URL, to what it was when they were made"
	case e.Emptied:
		return missing + ": the log's tables were emptied: keep whatever did it away from them; " +
			"then migrate, which begins a new log, and delete the stream, or give the new log another name"
	case e.Mends:
		return missing + ": migrate, which puts back what holds no data"
	}
	restore := missing + ": restore it from a backup"
	if e.ofLog {
		restore += ", or give up this log: drop its schema, migrate, and give the new log another stream"
	}
	return restore
}

// need is one thing that a set leaves.
type need struct {
	kind, name, part string
	soft             bool // it works without, only not as well
	ofLog            bool // a new log would have it
}

func (n need) String() string {
	switch n.kind {
	case "column":
		return fmt.Sprintf("the table %s has no column %s", n.name, n.part)
	case "key":
		return fmt.Sprintf("the table %s has no primary key", n.name)
	case "trigger":
		return fmt.Sprintf("the table %s has no trigger %s", n.name, n.part)
	}
	return fmt.Sprintf("the %s %s is missing", n.kind, n.name)
}

// needs are what the newest files of the library's sets leave. Each line is a kind, a
// name and the columns, those of a primary key in their order; what begins with a ? can be
// done without.
var needs = map[string]string{
	"unilog_log": `
		table unilog.staged_records id staged_at action object key data headers body content_type
		key unilog.staged_records id
		table unilog.log one log_id partitions epoch low_water format
		table unilog.partitions partition next_offset published_offset epoch compared trouble troubled_at
		key unilog.partitions partition
		table unilog.batches partition first_offset last_offset bytes numbered_at staged_at action object key data headers body content_type
		key unilog.batches partition last_offset
		table unilog.places generation url since final
		table unilog.redactions partition offset redacted_at redacted_by reason unapplied cleared_at
		key unilog.redactions partition offset
		table unilog.readers name partition offset reported_at copied
		key unilog.readers name partition
		view unilog.records partition offset numbered_at staged_at action object key data headers body content_type
		function unilog.records_between(integer,bigint,bigint)
		?function unilog.wake_streamer()
		?trigger unilog.staged_records staged_records_wake`,
	"unilog_consumer": `
		table unilog.checkpoints name partition offset position updated_at log_id outside paused_at paused_by began trouble troubled_at rejected
		key unilog.checkpoints name partition
		table unilog.members name member joined_at seen_at
		key unilog.members name member
		table unilog.leases name partition member
		key unilog.leases name partition
		table unilog.dead_letters consumer partition offset staged_at action object key data headers error parked_at discarded_at body content_type requeued_at
		key unilog.dead_letters consumer partition offset
		table unilog.interventions id at who what consumer partition from_offset to_offset reason
		key unilog.interventions id`,
}

// mends are the beginnings of the statements by which [Mend] puts back what holds no
// data, by what is missing. Each one ends before an empty line.
var mends = map[string]string{
	"view unilog.records": "CREATE OR REPLACE VIEW unilog.records AS",
	"function unilog.records_between(integer,bigint,bigint)": "CREATE OR REPLACE FUNCTION unilog.records_between(",
	"function unilog.wake_streamer()":                        "CREATE FUNCTION unilog.wake_streamer(",
	"trigger unilog.staged_records":                          "CREATE TRIGGER staged_records_wake",
	"table unilog.members":                                   "CREATE TABLE unilog.members (",
	"table unilog.leases":                                    "CREATE TABLE unilog.leases (",
	"table unilog.readers":                                   "CREATE TABLE unilog.readers (",
}

// firstRows begin the statements that give a new log its rows.
var firstRows = []string{"INSERT INTO unilog.log", "INSERT INTO unilog.partitions", "INSERT INTO unilog.places"}

// mend returns how the statement begins that puts it back, or all of it; nothing if it
// held data.
func (n need) mend() string {
	if n.kind == "key" {
		columns := strings.Fields(n.part)
		for i, c := range columns {
			columns[i] = pgx.Identifier{c}.Sanitize()
		}
		return fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (%s)", n.name, strings.Join(columns, ", "))
	}
	return mends[n.kind+" "+n.name]
}

func (s Set) needs() (all []need) {
	for line := range strings.Lines(needs[s.Name] + s.Needs) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		n := need{name: words[1], ofLog: s.Name == Log.Name}
		n.kind, n.soft = strings.CutPrefix(words[0], "?")
		if n.kind == "trigger" || n.kind == "key" {
			n.part = strings.Join(words[2:], " ")
			words = nil
		}
		all = append(all, n)
		for _, column := range words[min(2, len(words)):] {
			all = append(all, need{kind: "column", name: n.name, part: column, ofLog: n.ofLog})
		}
	}
	return all
}

const (
	// What a thing that is missing as a whole lacks is not said. Index: those of the catalogs.
	sqlMissing = `
SELECT n.i FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS n (kind, name, part, i)
WHERE NOT CASE n.kind
    WHEN 'function' THEN to_regprocedure(n.name) IS NOT NULL
    WHEN 'table' THEN EXISTS (SELECT FROM pg_class AS c WHERE c.oid = to_regclass(n.name) AND c.relkind IN ('r', 'p'))
    WHEN 'view' THEN EXISTS (SELECT FROM pg_class AS c WHERE c.oid = to_regclass(n.name) AND c.relkind = 'v')
    WHEN 'column' THEN to_regclass(n.name) IS NULL OR EXISTS (
        SELECT FROM pg_attribute AS a WHERE a.attrelid = to_regclass(n.name) AND a.attname = n.part AND NOT a.attisdropped)
    WHEN 'key' THEN to_regclass(n.name) IS NULL OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = to_regclass(n.name) AND i.indisprimary)
    WHEN 'trigger' THEN to_regclass(n.name) IS NULL OR EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = to_regclass(n.name) AND t.tgname = n.part)
END
ORDER BY n.i`

	// Index: pg_class_relname_nsp_index.
	sqlElsewhere = `
SELECT coalesce(string_agg(n.nspname, ', ' ORDER BY n.nspname), '')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname = $1 AND c.relkind IN ('r', 'p')`

	// Who only writes may see that there are rows, and not all that is in them.
	sqlMaySeeRows = `
SELECT has_column_privilege('unilog.log', 'low_water', 'SELECT') AND has_column_privilege('unilog.partitions', 'partition', 'SELECT'),
    has_table_privilege('unilog.log', 'SELECT') AND has_table_privilege('unilog.partitions', 'SELECT')
    AND has_table_privilege('unilog.places', 'SELECT') AND has_table_privilege('unilog.batches', 'SELECT')`

	// Index: partitions_pkey.
	sqlRows = `SELECT (SELECT count(low_water) FROM unilog.log), (SELECT count(partition) FROM unilog.partitions)`

	// A partition's archive may not be beyond its head. Index: batches_pkey.
	sqlAllRows = `
SELECT (SELECT count(*) FROM unilog.places), EXISTS (SELECT FROM unilog.batches),
    coalesce((SELECT max(partitions) FROM unilog.log), 0), (SELECT coalesce(max(partition), -1) FROM unilog.partitions),
    coalesce((
        SELECT min(p.partition) FROM unilog.partitions AS p
        WHERE EXISTS (SELECT FROM unilog.batches AS b WHERE b.partition = p.partition AND b.last_offset >= p.next_offset)
    ), -1)`
)

// incomplete returns an [IncompleteError] unless everything is there that the sets
// leave, or only that is missing which is not needed and the caller does not ask for.
func (in In) incomplete(ctx context.Context, db querier, sets []Set, alsoSoft bool) ([]need, error) {
	missing, err := in.missing(ctx, db, sets)
	if err != nil {
		return nil, err
	}
	if !alsoSoft {
		missing = slices.DeleteFunc(missing, func(n need) bool { return n.soft })
	}
	e := &IncompleteError{Mends: len(missing) > 0, elsewhere: len(missing) > 0}
	for _, n := range missing {
		what, elsewhere := unilog.Schema(in).SQL(n.String()), ""
		if n.kind == "table" && !strings.Contains(n.name, ".") {
			if err := db.QueryRow(ctx, sqlElsewhere, pgx.QueryExecModeExec, n.name).Scan(&elsewhere); err != nil {
				return nil, fmt.Errorf("look for the table %s: %w", n.name, err)
			}
		}
		if elsewhere != "" {
			what += " in the search_path, and is in " + elsewhere
		}
		e.elsewhere = e.elsewhere && elsewhere != ""
		e.Missing = append(e.Missing, what)
		e.Mends = e.Mends && n.mend() != ""
		e.ofLog = e.ofLog || n.ofLog
	}
	if len(missing) == 0 && slices.ContainsFunc(sets, func(s Set) bool { return s.Name == Log.Name }) {
		e.Missing, e.Emptied, err = in.missingRows(ctx, db)
		e.Mends, e.ofLog = e.Emptied, true
	}
	if err != nil || len(e.Missing) == 0 {
		return nil, err
	}
	return missing, e
}

func (in In) missing(ctx context.Context, db querier, sets []Set) (missing []need, err error) {
	var all []need
	var kinds, names, parts []string
	for _, set := range sets {
		for _, n := range set.needs() {
			all = append(all, n)
			kinds, names, parts = append(kinds, n.kind), append(names, unilog.Schema(in).SQL(n.name)), append(parts, n.part)
		}
	}
	rows, _ := db.Query(ctx, sqlMissing, pgx.QueryExecModeExec, kinds, names, parts)
	at, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("look whether the tables are there: %w", err)
	}
	for _, i := range at {
		missing = append(missing, all[i-1])
	}
	return missing, nil
}

// missingRows says which rows of the log's tables are missing, as far as the user may
// see them, and whether nothing is left of the log.
func (in In) missingRows(ctx context.Context, db querier) (missing []string, emptied bool, err error) {
	const mode = pgx.QueryExecModeExec
	row := func(sql string, into ...any) {
		if err == nil {
			err = db.QueryRow(ctx, unilog.Schema(in).SQL(sql), mode).Scan(into...)
		}
	}
	var some, all, archived bool
	var logs, partitions, places, active, last, behind int
	if row(sqlMaySeeRows, &some, &all); err != nil || !some {
		return nil, false, err
	}
	// What is hidden from the user is not missing.
	if err := postgres.CheckVisible(ctx, db, unilog.Schema(in).Name(), "log", "partitions", "places", "batches"); err != nil {
		return nil, false, err
	}
	row(sqlRows, &logs, &partitions)
	if all {
		row(sqlAllRows, &places, &archived, &active, &last, &behind)
	}
	if err != nil {
		return nil, false, fmt.Errorf("look whether the tables have their rows: %w", err)
	}
	say := func(is bool, what string) {
		if is {
			missing = append(missing, unilog.Schema(in).SQL(what))
		}
	}
	emptied = all && !archived && logs+partitions+places == 0
	back := func(insert string) string {
		if emptied {
			return ""
		}
		return " (if nothing else is lost, put it back by INSERT INTO " + insert + ")"
	}
	say(logs == 0, "the table unilog.log has no row"+
		back("unilog.log (log_id, partitions, epoch) SELECT '…', …, max(compared) + 1 FROM unilog.partitions, "+
			"with the log_id of the stream and of unilog.checkpoints, and the number of partitions that it had"))
	say(partitions == 0, "the table unilog.partitions has no row")
	say(all && places == 0, "the table unilog.places has no row"+
		back(fmt.Sprintf("unilog.places (generation, url) VALUES (%d, …), with the URL that it was moved to, or null", time.Now().Unix())))
	say(all && partitions > 0 && (last+1 != partitions || partitions < active), "the table unilog.partitions lacks rows")
	say(all && behind >= 0, fmt.Sprintf("the table unilog.partitions is behind unilog.batches in partition %d", behind))
	return missing, emptied, nil
}

// Mend puts back what is missing of the sets' tables and holds no data: views, functions,
// the trigger, and what only processes that run have made. Where nothing is left of the
// log, it begins a new one, with another log_id. It returns what to say of that, and an
// [IncompleteError] if something is missing that it cannot put back; it then changes
// nothing.
func Mend(ctx context.Context, db Beginner, sets ...Set) (mended []string, err error) {
	return In("").Mend(ctx, db, sets...)
}

// Mend is the function [Mend] in a schema.
func (in In) Mend(ctx context.Context, db Beginner, sets ...Set) (mended []string, err error) {
	if err := unilog.Schema(in).Check(); err != nil {
		return nil, err
	}
	all, err := read(sets)
	if err != nil {
		return nil, err
	}
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, in.sqlBegin(lockWait)); err != nil {
			return err
		}
		for { // what is missing may have hidden that rows are
			missing, err := in.incomplete(ctx, tx, sets, true)
			var incomplete *IncompleteError
			if !errors.As(err, &incomplete) || !incomplete.Mends {
				return err
			}
			var starts []string
			for _, n := range missing {
				starts = append(starts, n.mend())
			}
			if incomplete.Emptied {
				starts = firstRows
			}
			for _, start := range starts {
				if _, err := tx.Exec(ctx, unilog.Schema(in).SQL(statement(all, start))); err != nil {
					return err
				}
			}
			after := "put back; grant rights to it again"
			if incomplete.Emptied {
				after = "a new log begins, with a log_id of its own: delete the stream of the one before, or give the new one another name"
			}
			mended = append(mended, strings.Join(incomplete.Missing, ", ")+": "+after)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("mend the tables: %w", err)
	}
	return mended, nil
}

// statement returns the last one that begins in this way, up to an empty line, or the
// beginning if it is a statement of its own.
func statement(all [][]file, start string) (found string) {
	for _, files := range all {
		for _, f := range files {
			if _, after, ok := strings.Cut("\n"+f.text, "\n"+start); ok {
				found, _, _ = strings.Cut(after, ";\n\n")
				found = start + found
			}
		}
	}
	return cmp.Or(found, start)
}
