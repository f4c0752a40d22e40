package consumer

import (
	"context"
	"time"
)

// WithSilence lets a consumer's process be silent within a transaction, and its handler
// return, for another time than they have.
func WithSilence(cfg Config, d time.Duration) Config {
	cfg.silence, cfg.grace = d, d
	return cfg
}

// WithPatience lets a consumer's process be in trouble for another time until it leaves
// its work to others.
func WithPatience(cfg Config, d time.Duration) Config {
	cfg.patience = d
	return cfg
}

// WithUnwanted lets partitions be free for another time until a consumer's process takes them
// beyond its share.
func WithUnwanted(cfg Config, d time.Duration) Config {
	cfg.unwanted = d
	return cfg
}

// WithPassedPause saves the checkpoint of what was passed over after another time.
func WithPassedPause(cfg Config, d time.Duration) Config {
	cfg.passedPause = d
	return cfg
}

// RunQuiet is RunOnce for a consumer that waits, if not for long: when the log
// gives it nothing, it looks whether there should be something.
func (c *Consumer) RunQuiet(ctx context.Context) (int, error) {
	return c.stepAll(ctx, time.Millisecond)
}

// BeSilentFor makes the consumer's last sign of life older.
func (c *Consumer) BeSilentFor(d time.Duration) {
	c.heartbeat = c.heartbeat.Add(-d)
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
