package cli

import (
	"cmp"
	_ "embed"
	"slices"
	"strings"
	"text/template"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/migration"
)

// rolesText makes the roles under which the processes need no more than they do. It
// is one transaction, and can be run again.
//
//go:embed roles.sql
var rolesText string

func (p *Program) writerRole() string { return cmp.Or(p.WriterRole, "writer") }

// rolesSQL is for a side of the tables. The roles' names need no quoting.
func (p *Program) rolesSQL(schema unilog.Schema, of side) (string, error) {
	has := func(set migration.Set) bool {
		return slices.ContainsFunc(of, func(s migration.Set) bool { return s.Name == set.Name })
	}
	service := p.service() + "_"
	names := map[string]any{
		"Service": p.service(), "Log": has(migration.Log), "Consumers": has(migration.Consumer), "Own": strings.TrimSpace(p.Roles),
		"Schema": pgx.Identifier{schema.Name()}.Sanitize(),
		"Writer": service + p.writerRole(), "Streamer": service + "streamer", "Consumer": service + "consumer", "Reader": service + "reader",
	}
	all := []string{service + "consumer", service + "reader"}
	if has(migration.Log) {
		all = append([]string{service + p.writerRole(), service + "streamer"}, all...)
	}
	names["All"] = strings.Join(all, ", ")
	t, err := template.New("roles").Parse(rolesText)
	if err != nil {
		return "", err
	}
	var sql strings.Builder
	err = t.Execute(&sql, names)
	return schema.SQL(sql.String()), err
}
