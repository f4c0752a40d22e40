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

// Turn is closed when the deliverer, which runs, heeds the next intervention.
func (d *Deliverer) Turn() <-chan struct{} { return d.watch.now().Done() }

// WaitsPaused says whether a partition has seen that the deliverer is paused.
func (d *Deliverer) WaitsPaused() bool {
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	return d.watch.saysPaused
}
