package unilog_test

import (
	"testing"

	"github.com/rocketrides/unilog"
)

func TestSchemaOfStatements(t *testing.T) {
	t.Parallel()
	const sql = `LISTEN "unilog:staged"; SELECT pg_notify('unilog:staged', object), 'unilog' FROM unilog.log, unilog.partitions`
	for schema, want := range map[unilog.Schema]string{
		"":       sql,
		"unilog": sql,
		"user":   `LISTEN "user:staged"; SELECT pg_notify('user:staged', object), 'unilog' FROM "user".log, "user".partitions`,
	} {
		if got := schema.SQL(sql); got != want {
			t.Errorf("in schema %s the statement is\n%s, want\n%s", schema.Name(), got, want)
		}
		if err := schema.Check(); err != nil {
			t.Error(err)
		}
	}
	if name := unilog.Schema("").Name(); name != "unilog" {
		t.Errorf("the default is %s", name)
	}
}
