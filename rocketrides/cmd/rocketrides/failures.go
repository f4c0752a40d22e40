package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

// Tests have more patience, on machines that are busy.
var (
	// handlerTimeout bounds one statement that adds up distances.
	handlerTimeout = 5 * time.Second
	// apiTimeout bounds what the api's requests ask of the database, and its wait for
	// them when it ends; 0 for the api's defaults.
	apiTimeout time.Duration
	// actionTimeout bounds what up is asked to do; 0 for its default.
	actionTimeout time.Duration
	// forgetTimeout bounds the wait until a consumer counts as ended.
	forgetTimeout = 10 * time.Second
	// auditPatience bounds up's wait for the consumers at its end.
	auditPatience = 30 * time.Second
)

type failureFlags struct {
	settingsFlags    `embed:""`
	SimulateFailures float64 `env:"SIMULATE_FAILURES" default:"0" placeholder:"P" help:"Fail on purpose after this share of batches, from 0 to 1: 0.1 is every tenth."`
	Seed             uint64  `env:"SEED" default:"0" help:"Makes random choices repeatable; 0 takes a new seed each time."`
}

// hook returns one that fails as asked for, and says so; nil if none ever is.
// Processes of different names fail at different times.
func (f *failureFlags) hook(ctx context.Context, log *slog.Logger, name, says string) (func(context.Context, []unilog.Entry) error, error) {
	if f.SimulateFailures == 0 && f.Settings == "" {
		return nil, nil
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	seed := cmp.Or(f.Seed, rand.Uint64()) ^ hash.Sum64()
	var fails atomic.Pointer[func(context.Context, []unilog.Entry) error]
	use := func(share float64) {
		hook := unilog.SimulateFailures(share, seed)
		fails.Store(&hook)
	}
	use(f.SimulateFailures)
	if err := f.follow(ctx, log, func(s up.Settings) { use(s.Failures) }); err != nil {
		return nil, err
	}
	return func(ctx context.Context, entries []unilog.Entry) error {
		err := (*fails.Load())(ctx, entries)
		if err != nil {
			log.Warn(says, "records", len(entries), "first", entries[0].Offset, "last", entries[len(entries)-1].Offset)
		}
		return err
	}, nil
}

func (f *failureFlags) Validate() error {
	if f.SimulateFailures < 0 || f.SimulateFailures >= 1 {
		return fmt.Errorf("--simulate-failures is %g: it must be at least 0 and below 1", f.SimulateFailures)
	}
	return nil
}
