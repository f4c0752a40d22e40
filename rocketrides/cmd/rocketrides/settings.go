package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

// settingsFlags are for processes that `up` steers while they run.
type settingsFlags struct {
	Settings string `hidden:"" env:"ROCKETRIDES_SETTINGS" placeholder:"FILE"`
}

// settingsPeriod is how soon a change is noticed. Unlike a signal, a file cannot
// come too early for a process that is starting.
const settingsPeriod = 100 * time.Millisecond

// follow calls use with the settings that there are, and in the background with
// each change until ctx ends. Without a file it does nothing.
func (f *settingsFlags) follow(ctx context.Context, log *slog.Logger, use func(up.Settings)) error {
	if f.Settings == "" {
		return nil
	}
	now, err := up.ReadSettings(f.Settings)
	if err != nil {
		return err
	}
	use(now)
	go func() {
		for ticks := time.Tick(settingsPeriod); ; {
			select {
			case <-ctx.Done():
				return
			case <-ticks:
			}
			next, err := up.ReadSettings(f.Settings)
			if err != nil {
				log.Warn("the settings stay as they are from now on", "err", err)
				return
			}
			if next != now {
				use(next)
				now = next
			}
		}
	}()
	return nil
}
