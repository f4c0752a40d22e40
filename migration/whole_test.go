package migration

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
)

// TestTablesThatAreNotWhole takes something away. Check and Up say what is missing and
// what to do; Mend puts back what holds no data, as it was, and else changes nothing.
func TestTablesThatAreNotWhole(t *testing.T) {
	t.Parallel()
	own := set("own", `CREATE TABLE orders (id bigint, amount numeric)`)
	own.Needs = "table orders id amount"
	sets := []Set{Log, Consumer, own}
	const backup, newLog, mend = "restore it from a backup", "or give up this log", "migrate, which puts back"
	const all = `unilog.log, unilog.partitions, unilog.places, unilog.batches, unilog.staged_records, unilog.checkpoints`
	for damage, c := range map[string]struct {
		says []string
		soft bool // it works without
	}{
		`TRUNCATE unilog.log`:                  {says: []string{"the table unilog.log has no row", "put it back by INSERT INTO unilog.log", newLog}},
		`TRUNCATE unilog.partitions`:           {says: []string{"the table unilog.partitions has no row", newLog}},
		`TRUNCATE unilog.places`:               {says: []string{"the table unilog.places has no row", "put it back by INSERT INTO unilog.places", newLog}},
		`TRUNCATE ` + all:                      {says: []string{"unilog.log has no row, ", "unilog.partitions has no row, ", "were emptied", "begins a new log"}},
		`UPDATE unilog.log SET partitions = 2`: {says: []string{"the table unilog.partitions lacks rows", newLog}},
		`UPDATE unilog.partitions SET next_offset = 1, published_offset = 0`: {
			says: []string{"the table unilog.partitions is behind unilog.batches in partition 0", newLog},
		},
		`DROP TABLE unilog.batches CASCADE`:                                                    {says: []string{"the table unilog.batches is missing", "the view unilog.records is missing", newLog}},
		`DROP TABLE unilog.dead_letters`:                                                       {says: []string{"the table unilog.dead_letters is missing", backup}},
		`DROP TABLE unilog.members, unilog.leases`:                                             {says: []string{"the table unilog.members is missing", "unilog.leases", mend}},
		`DROP VIEW unilog.records CASCADE`:                                                     {says: []string{"the view unilog.records is missing", "the function unilog.records_between(", mend}},
		`DROP FUNCTION unilog.records_between`:                                                 {says: []string{"the function unilog.records_between(", mend}},
		`DROP FUNCTION unilog.wake_streamer CASCADE`:                                           {says: []string{"the function unilog.wake_streamer() is missing", "no trigger staged_records_wake"}, soft: true},
		`DROP TRIGGER staged_records_wake ON unilog.staged_records`:                            {says: []string{"the table unilog.staged_records has no trigger staged_records_wake"}, soft: true},
		`ALTER TABLE unilog.batches DROP CONSTRAINT batches_pkey`:                              {says: []string{"the table unilog.batches has no primary key", mend}},
		`ALTER TABLE unilog.log DROP COLUMN low_water`:                                         {says: []string{"the table unilog.log has no column low_water", newLog}},
		`ALTER TABLE unilog.log RENAME TO l; CREATE VIEW unilog.log AS SELECT * FROM unilog.l`: {says: []string{"the table unilog.log is missing", newLog}},
		`ALTER TABLE orders DROP COLUMN amount`:                                                {says: []string{"the table orders has no column amount", backup}},
	} {
		t.Run(damage, func(t *testing.T) {
			t.Parallel()
			pool := testenv.Database(t, "whole", func(ctx context.Context, pool *pgxpool.Pool) error { return Up(ctx, pool, sets...) })
			exec(t, pool, `INSERT INTO unilog.batches VALUES (0, 1, 1, 1, now(), ARRAY[now()], '{a}', '{o}', '{""}', '{1}', '{"{}"}')`)
			exec(t, pool, `UPDATE unilog.partitions SET next_offset = 2`)
			whole := rows(t, pool, sqlSchema)
			exec(t, pool, damage)
			for what, err := range map[string]error{"Check": Check(t.Context(), pool, sets...), "Up": Up(t.Context(), pool, sets...)} {
				if c.soft && err == nil {
					continue
				}
				var incomplete *IncompleteError
				if !errors.As(err, &incomplete) || c.soft {
					t.Fatalf("%s says %v", what, err)
				}
				wantWords(t, what, err.Error(), c.says)
			}
			said, err := Mend(t.Context(), pool, sets...)
			if strings.Contains(c.says[len(c.says)-1], newLog) || strings.Contains(c.says[len(c.says)-1], backup) {
				var incomplete *IncompleteError
				if !errors.As(err, &incomplete) || said != nil {
					t.Errorf("Mend says %v and %q", err, said)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			wantWords(t, "Mend", strings.Join(said, ", ")+" were emptied, begins a new log, "+mend, c.says)
			if err := Check(t.Context(), pool, sets...); err != nil {
				t.Errorf("after Mend: %v", err)
			}
			without := func(row string) bool { return strings.HasPrefix(row, "row ") } // a new log's may be others
			if got := rows(t, pool, sqlSchema); !slices.Equal(slices.DeleteFunc(got, without), slices.DeleteFunc(whole, without)) {
				t.Errorf("Mend leaves\n%s\nand before was\n%s", strings.Join(got, "\n"), strings.Join(whole, "\n"))
			}
			if said, err := Mend(t.Context(), pool, sets...); err != nil || said != nil {
				t.Errorf("Mend again says %q and %v", said, err)
			}
		})
	}
}

func wantWords(t *testing.T, who, says string, words []string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(says, w) {
			t.Errorf("%s says %q, which lacks %q", who, says, w)
		}
	}
}

// A ledger that was emptied is told from a database without tables.
func TestLedgerThatWasEmptied(t *testing.T) {
	t.Parallel()
	pool := database(t)
	migrate(t, pool, Log)
	exec(t, pool, `TRUNCATE unilog.migrations`)
	for range newest(t, Log) { // each of its files
		err := Up(t.Context(), pool, Log)
		if err == nil {
			t.Fatal("it was migrated again")
		}
		_, after, _ := strings.Cut(err.Error(), "if they are of this version, run ")
		insert, _, _ := strings.Cut(after, "; if")
		exec(t, pool, insert)
	}
	migrate(t, pool, Log)
}

// What must be there is all that there is: a later file changes both.
func TestNeedsAreWhatTheFilesLeave(t *testing.T) {
	t.Parallel()
	pool := database(t)
	migrate(t, pool, Log, Consumer)
	var want []string
	for _, n := range slices.Concat(Log.needs(), Consumer.needs()) {
		if n.kind == "column" {
			want = append(want, n.name+" "+n.part)
		}
	}
	slices.Sort(want)
	wantRows(t, pool, `
		SELECT attrelid::regclass || ' ' || attname FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
		WHERE attnum > 0 AND NOT attisdropped AND c.relkind IN ('r', 'v') AND c.relnamespace = 'unilog'::regnamespace AND c.relname <> 'migrations'
		ORDER BY (attrelid::regclass || ' ' || attname) COLLATE "C"`, want...)
}
