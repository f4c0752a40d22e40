package rides

import "github.com/rocketrides/unilog"

// Audit is the equation of Rocket Rides: the distance of all rides is what each
// consumer has added up and what is still on the way to it.
var Audit = unilog.Audit{
	Truth:  `SELECT sum(distance) FROM rides`,
	Totals: `SELECT name, total_distance FROM consumer_states`,
	Amount: `CASE WHEN action = 'create' AND object = 'ride' AND jsonb_typeof(data -> 'distance') = 'number'
		THEN (data ->> 'distance')::numeric END`,
	SetTotal: `
		INSERT INTO consumer_states (name, total_distance) VALUES ($1, $2::text::numeric + $3::text::numeric)
		ON CONFLICT (name) DO UPDATE SET total_distance = excluded.total_distance`,
}
