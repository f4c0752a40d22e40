package consumer

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/loop"
)

// settings are those of a session that decide what a statement means, or may do, and so
// must not be left changed to the next user of a connection.
var settings = []string{
	"search_path", "role", "session_authorization", "statement_timeout", "lock_timeout",
	"default_transaction_isolation", "default_transaction_read_only", "session_replication_role", "row_security",
	"client_encoding", "standard_conforming_strings", "bytea_output", "TimeZone", "DateStyle", "IntervalStyle",
}

// sqlSettings also counts what the session listens to.
var sqlSettings = `SELECT ARRAY[current_setting('` + strings.Join(settings, `'), current_setting('`) + `'),
    (SELECT count(*) FROM pg_listening_channels())::text]`

// settingsPause is the time between looks at a session's settings where nothing says that
// they may have changed.
const settingsPause = 10 * time.Second

// session is what is remembered of a connection.
type session struct {
	settings []string // as they were when it was first used
	looked   time.Time
}

const sessionKey = "unilog session"

// sessionOf returns what is remembered of a connection, after a first look at it.
func sessionOf(ctx context.Context, conn *pgxpool.Conn) (*session, error) {
	data := conn.Conn().PgConn().CustomData()
	if s, ok := data[sessionKey].(*session); ok {
		return s, nil
	}
	s := new(session)
	if err := conn.QueryRow(ctx, sqlSettings).Scan(&s.settings); err != nil {
		return nil, err
	}
	data[sessionKey] = s
	return s, nil
}

// left says once which settings a handler has left changed.
func (c *partitionConsumer) left(before, after []string) {
	if c.leaves {
		return
	}
	c.leaves = true
	var changed []string
	for i, value := range after {
		switch {
		case before[i] == value:
		case i < len(settings):
			changed = append(changed, settings[i])
		default:
			changed = append(changed, "LISTEN")
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
