package rides

import (
	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
)

// Audit is the equation of Rocket Rides: the distance of all rides is what each
// consumer has added up and what is still on the way to it.
var Audit = audit.Equation{
	Truth:  `SELECT sum(distance) FROM rides`,
	Totals: `SELECT name, sum(total_distance) FROM consumer_states GROUP BY name`,
	Amount: `CASE WHEN action = 'create' AND object = 'ride' AND jsonb_typeof(data -> 'distance') = 'number'
		THEN (data ->> 'distance')::numeric END`,
	AddToTotal: `
		INSERT INTO consumer_states AS s (name, total_distance) VALUES ($1, $2::text::numeric)
		ON CONFLICT (name, partition) DO UPDATE SET total_distance = s.total_distance + excluded.total_distance`,
}

// AuditIn is [Audit] for the log in a schema.
func AuditIn(schema unilog.Schema) audit.Equation {
	a := Audit
	a.Schema = schema
	return a
}
