package unilog

import (
	"time"
)

const (

	// readWait bounds how long a read waits for the first entry.
	readWait = time.Second
)
