package loop

import (
	"time"
)

// These bounds are for programs. Only tests change them, before they begin (as package world does):
// what is tested is not how fast the machine is.
var (
	// CallTimeout bounds each call to Postgres or to the log.
	CallTimeout = 5 * time.Second
	// FarewellTimeout bounds the last call of a process that gives up its locks or leases.
	FarewellTimeout = time.Second
	// ShutdownTimeout bounds the batch in hand after a cancel.
	ShutdownTimeout = 5 * time.Second
)

// Heartbeat is how often an idle consumer or deliverer shows that it is alive.
const Heartbeat = 30 * time.Second
