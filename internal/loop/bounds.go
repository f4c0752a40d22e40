package loop

import (
	"time"
)

// CallTimeout bounds each call to Postgres or to the log.
const CallTimeout = 5 * time.Second

// FarewellTimeout bounds the last call of a process that gives up its locks or leases.
const FarewellTimeout = time.Second

// ShutdownTimeout bounds the batch in hand after a cancel.
const ShutdownTimeout = 5 * time.Second

// Heartbeat is how often an idle consumer or deliverer shows that it is alive.
const Heartbeat = 30 * time.Second
