package reader

import (
	"time"
)

const (

	// ReadWait bounds how long a read waits for the first entry.
	ReadWait = time.Second
)
