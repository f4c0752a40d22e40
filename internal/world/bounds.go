package world

import (
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// A machine that is busy, or a virtual one that pauses, may let a server, a process or a
// timer stand still for many seconds. A call that is given up for that is made again by
// whoever runs, but what has come of the first one is then not known: records are delivered
// twice, a count lacks what was committed, and what was in hand at the end is rolled back. No
// test of what is done in order may see that, so these bounds are longer than such a pause.
// The tests of the bounds themselves have connections that fail for good, and wait for that.
func init() {
	loop.CallTimeout = 15 * time.Second
	loop.FarewellTimeout = 10 * time.Second
	loop.ShutdownTimeout = 20 * time.Second
}
