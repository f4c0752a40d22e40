package consumer

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/loop"
)

// settings are those of a session that decide what a statement means, or may do, and so
// must not be left changed to the next user of a connection. What it listens to is one.
const settings = `ARRAY[
    'search_path ' || current_setting('search_path'),
    'role ' || current_user,
    'session_authorization ' || session_user,
    'statement_timeout ' || current_setting('statement_timeout'),
    'lock_timeout ' || current_setting('lock_timeout'),
    'default_transaction_isolation ' || current_setting('default_transaction_isolation'),
    'default_transaction_read_only ' || current_setting('default_transaction_read_only'),
    'session_replication_role ' || current_setting('session_replication_role'),
    'row_security ' || current_setting('row_security'),
    'TimeZone ' || current_setting('TimeZone'),
    'DateStyle ' || current_setting('DateStyle'),
    'LISTEN ' || (SELECT count(*) FROM pg_listening_channels())
]`

const sqlSettings = `SELECT ` + settings

// left says once which settings a handler has left changed.
func (c *partitionConsumer) left(before, after []string) {
	if c.leaves {
		return
	}
	c.leaves = true
	var changed []string
	for i := range after {
		if i < len(before) && before[i] != after[i] {
			changed = append(changed, after[i])
		}
	}
	c.log.Warn("the handler leaves settings of its connection changed, which is therefore closed, each time: use SET LOCAL, and no LISTEN",
		"changed", strings.Join(changed, ", "))
}

// drop closes a connection that must not be used again. The pool makes another one.
func drop(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	_ = conn.Hijack().Close(ctx)
}
