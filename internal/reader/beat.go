package reader

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// SQLBeat leaves a row alone that is locked: whoever holds it is alive. Index:
// checkpoints_pkey.
const SQLBeat = `
UPDATE unilog.checkpoints AS c SET updated_at = clock_timestamp()
FROM (
    SELECT partition FROM unilog.checkpoints
    WHERE name = $1 AND updated_at < clock_timestamp() - make_interval(secs => $2)
    FOR UPDATE SKIP LOCKED
) AS silent
WHERE c.name = $1 AND c.partition = silent.partition`

// Beat shows that a consumer or a deliverer is alive, in all partitions in which it has
// not saved its checkpoint lately. Whether it can read the log does not matter.
func Beat(ctx context.Context, db unilog.Execer, schema unilog.Schema, name string) error {
	if _, err := db.Exec(ctx, schema.SQL(SQLBeat), name, loop.Heartbeat.Seconds()/2); err != nil {
		return fmt.Errorf("show that %s is alive: %w", name, err)
	}
	return nil
}
