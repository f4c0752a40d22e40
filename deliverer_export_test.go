package unilog

import "time"

// WithRetries makes the waits after failed deliveries short enough for a test.
func WithRetries(cfg DelivererConfig, first, most time.Duration) DelivererConfig {
	cfg.retryFirst, cfg.retryMost = first, most
	return cfg
}
