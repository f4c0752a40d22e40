package deliverer

import "time"

// Hurried makes the waits after failed deliveries short enough for a test.
func Hurried(cfg *Config) {
	cfg.retryFirst, cfg.retryMost = time.Millisecond, 10*time.Millisecond
}
