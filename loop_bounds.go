package unilog

import (
	"time"
)

// callTimeout bounds each call to Postgres or to the log.
const callTimeout = 5 * time.Second

// farewellTimeout bounds what a leader that steps down tells Postgres.
const farewellTimeout = time.Second

// shutdownTimeout bounds the batch in hand after a cancel.
const shutdownTimeout = 5 * time.Second

// heartbeat is how often an idle consumer shows that it is alive.
const heartbeat = 30 * time.Second
