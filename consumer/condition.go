package consumer

import (
	"fmt"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// condition says whether a partition can be worked on: whoever works on it notes that,
// and whoever holds its lease looks. It is safe for concurrent use.
type condition struct {
	mu sync.Mutex
	// reading is when the reads began of which none has succeeded, or zero.
	reading time.Time
	err     error // of the last of them
	// hang is the handler's: until it returns, the partition is nobody else's.
	hang loop.Hang
}

// begin forgets the reads of before.
func (c *condition) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading, c.err = time.Time{}, nil
}

func (c *condition) reads() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reading.IsZero() {
		c.reading = time.Now()
	}
}

func (c *condition) hasRead(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err = err; err == nil {
		c.reading = time.Time{}
	}
}

// trouble returns why the partition cannot be worked on: its handler hangs, or it
// could not be read for as long as patience says.
func (c *condition) trouble(patience time.Duration) error {
	if err := c.hang.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.reading.IsZero() || time.Since(c.reading) < patience:
		return nil
	case c.err == nil:
		return fmt.Errorf("unilog: the log has not answered for %v", patience)
	}
	return c.err
}
