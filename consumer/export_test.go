package consumer

import (
	"context"
	"time"
)

// WithSilence lets a consumer's process be silent within a transaction for another
// time than its handler has.
func WithSilence(cfg Config, d time.Duration) Config {
	cfg.silence = d
	return cfg
}

// RunQuiet is RunOnce for a consumer that waits, if not for long: when the log
// gives it nothing, it looks whether there should be something.
func (c *Consumer) RunQuiet(ctx context.Context) (int, error) {
	return c.stepAll(ctx, time.Millisecond)
}

// BeSilentFor makes the consumer's last sign of life older.
func (c *Consumer) BeSilentFor(d time.Duration) {
	for _, p := range c.partitions {
		p.checkpoint.heartbeat = p.checkpoint.heartbeat.Add(-d)
	}
}

// Reread makes the consumer read its checkpoints again.
func (c *Consumer) Reread() {
	for _, p := range c.partitions {
		p.reader.Forget()
	}
}

// The statements that run in loops, for a look at their plans.
const (
	SQLAdvance = sqlAdvance
	SQLRenew   = sqlRenew
	SQLTake    = sqlTake
)
