package deliverer

import "time"

// Hurried makes the waits after failed deliveries short enough for a test.
func Hurried(cfg *Config) {
	cfg.retryFirst, cfg.retryMost = time.Millisecond, 10*time.Millisecond
}

// Patient lets a delivery take as long as it wants to return when its time is over.
func Patient(cfg *Config) { cfg.grace = time.Hour }

// Beating lets a deliverer look every millisecond whether its checkpoints can be saved.
func Beating(cfg *Config) { cfg.beatPause = time.Millisecond }

// SavingSeldom lets no checkpoint be saved just because time has passed.
func SavingSeldom(cfg *Config) { cfg.saveWithin = time.Hour }
