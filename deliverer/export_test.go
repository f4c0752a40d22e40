package deliverer

import "time"

// WithRetries makes the waits after failed deliveries short enough for a test.
func WithRetries(cfg Config, first, most time.Duration) Config {
	cfg.retryFirst, cfg.retryMost = first, most
	return cfg
}
