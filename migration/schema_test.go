package migration

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestSchemasAreAlike sees that a log is the same in any schema, also in one whose name
// is a word of SQL.
func TestSchemasAreAlike(t *testing.T) {
	t.Parallel()
	byDefault := database(t)
	migrate(t, byDefault, Log, Consumer)
	want := rows(t, byDefault, sqlSchema)
	for _, name := range []string{"tenant", "user", "_2"} {
		pool, in := database(t), In(name)
		if err := in.Up(t.Context(), pool, Log, Consumer); err != nil {
			t.Fatalf("in %s: %v", name, err)
		}
		if err := in.Check(t.Context(), pool, Log, Consumer); err != nil {
			t.Errorf("in %s: %v", name, err)
		}
		got := rows(t, pool, unilog.Schema(name).SQL(sqlSchema))
		for i := range got {
			got[i] = strings.NewReplacer(`"`+name+`".`, "unilog.", name+".", "unilog.", name+":", "unilog:").Replace(got[i])
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("in %s there is\n%s\nand in the default one\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestSchemasSideBySide has three logs in one database.
func TestSchemasSideBySide(t *testing.T) {
	t.Parallel()
	pool := database(t)
	schemas := []unilog.Schema{"", "tenant", "user"}
	for i, schema := range schemas {
		in := In(schema)
		if err := in.Check(t.Context(), pool, Log); err == nil {
			t.Errorf("there is nothing in %s yet, and Check does not say so", schema.Name())
		}
		if i == 2 { // by other means
			text, err := in.SQL(Log, Consumer)
			if err != nil {
				t.Fatal(err)
			}
			exec(t, pool, text)
		}
		if err := in.Up(t.Context(), pool, Log, Consumer); err != nil {
			t.Fatal(err)
		}
	}
	for i, schema := range schemas {
		for n := range i + 1 {
			record := unilog.Record{Action: "note", Object: "number", Data: fmt.Appendf(nil, `{"n": %d}`, n)}
			if err := schema.Stage(t.Context(), pool, record); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := In(schema).Repartition(t.Context(), pool, i+1); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for i, schema := range schemas {
		of := func(sql string) string { return query(t, pool, schema.SQL(sql)) }
		if n := of(`SELECT count(*) FROM unilog.staged_records`); n != fmt.Sprint(i+1) {
			t.Errorf("%s has %s staged records, want %d", schema.Name(), n, i+1)
		}
		if n := of(`SELECT partitions || ' ' || (SELECT count(*) FROM unilog.partitions) FROM unilog.log`); n != fmt.Sprintf("%d %[1]d", i+1) {
			t.Errorf("%s has %s partitions, want %d", schema.Name(), n, i+1)
		}
		of(`INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
			VALUES (0, 1, 1, 1, '{now}', '{a}', '{o}', '{""}', '{"` + fmt.Sprint(i) + `"}', '{"{}"}') RETURNING 1`)
		ids = append(ids, of(`SELECT log_id FROM unilog.log`))
	}
	for i, schema := range schemas {
		sql := schema.SQL(`SELECT string_agg(data::text, ' ') || (SELECT string_agg(data::text, ' ') FROM unilog.records_between(0, 0, 9)) FROM unilog.records`)
		if data := query(t, pool, sql); data != fmt.Sprintf("%d%[1]d", i) {
			t.Errorf("%s has the records %s", schema.Name(), data)
		}
	}
	if ids[0] == ids[1] || ids[1] == ids[2] || ids[0] == ids[2] {
		t.Errorf("logs have the same id: %q", ids)
	}
}

// TestSchemasWakeTheirOwn sees that a writer wakes the streamer of its own log, which
// sleeps, and takes no notice of that of another one.
func TestSchemasWakeTheirOwn(t *testing.T) {
	t.Parallel()
	pool := database(t)
	schemas := []unilog.Schema{"", "user"}
	var sleepers []*pgx.Conn
	for _, schema := range schemas {
		if err := In(schema).Up(t.Context(), pool, Log); err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		exec(t, conn, schema.SQL(`LISTEN "unilog:staged"`))
		sleepers = append(sleepers, conn)
	}
	stage := func(schema unilog.Schema) {
		t.Helper()
		if err := schema.Stage(t.Context(), pool, unilog.Record{Action: "note", Object: "number", Data: []byte(`1`)}); err != nil {
			t.Fatal(err)
		}
	}
	for i, schema := range schemas {
		exec(t, sleepers[i], schema.SQL(fmt.Sprintf(`SELECT pg_advisory_lock(%s, %d)`, locks.Staged, locks.Sleep)))
		stage(schemas[1-i])
		stage(schema)
		exec(t, sleepers[1-i], `SELECT`)
		n, err := sleepers[i].WaitForNotification(await.Context(t, "a writer to wake its streamer"))
		if err != nil || n.Channel != schema.Name()+":staged" {
			t.Errorf("the streamer of %s is woken by %+v, %v", schema.Name(), n, err)
		}
		exec(t, sleepers[i], `SELECT pg_advisory_unlock_all()`)
		stage(schemas[1-i])
	}
	for i, conn := range sleepers {
		exec(t, conn, schemas[i].SQL(`NOTIFY "unilog:staged", 'last'`))
		if n, err := conn.WaitForNotification(t.Context()); err != nil || n.Payload != "last" {
			t.Errorf("the streamer of %s was woken again: %+v, %v", schemas[i].Name(), n, err)
		}
	}
}

func TestSchemasThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Tenant", "1st", "pg_own", "a.b", `a"b`, "a'b", "a b", "é", strings.Repeat("a", 41)} {
		in := In(name)
		_, sql := in.SQL(Log)
		_, repartition := in.Repartition(t.Context(), nil, 2)
		for what, err := range map[string]error{
			"Up": in.Up(t.Context(), nil, Log), "Check": in.Check(t.Context(), nil, Log), "SQL": sql, "Repartition": repartition,
		} { // none gets as far as the database
			if says := fmt.Sprintf("the schema's name is %q: it must be of a to z", name); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%s says %v, want %s", what, err, says)
			}
		}
	}
	if err := unilog.Schema(strings.Repeat("a", 40)).Check(); err != nil {
		t.Error(err)
	}
}

// TestSchemaThatIsThereAlready is about a user who may make no schema, and was given
// one.
func TestSchemaThatIsThereAlready(t *testing.T) {
	t.Parallel()
	pool := database(t)
	role := "owner_" + query(t, pool, `SELECT current_database()`) // a role is the whole server's
	exec(t, pool, `CREATE ROLE `+role+` LOGIN`)
	t.Cleanup(func() {
		if _, err := pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role); err != nil {
			t.Error(err)
		}
	})
	address, err := url.Parse(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.User(role)
	own, err := pgxpool.New(t.Context(), address.String())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, own)
	if err := Up(t.Context(), own, Log); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("who may make no schema made one: %v", err)
	}
	exec(t, pool, `CREATE SCHEMA unilog AUTHORIZATION `+role)
	migrate(t, own, Log, Consumer)
}

// query returns the one value of a query, as text.
func query(t *testing.T, pool *pgxpool.Pool, sql string) string {
	t.Helper()
	var text *string
	if err := pool.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil || text == nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return *text
}
