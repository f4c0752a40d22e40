package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/rocketrides/unilog/internal/torture"
)

type tortureCmd struct {
	For     time.Duration `default:"60s" help:"How long to inject faults, as 60s or 10m."`
	Rate    float64       `default:"200" help:"Rides a second."`
	Faults  []string      `placeholder:"NAME" help:"Inject only these."`
	Seed    uint64        `default:"0" help:"Repeats the faults of an earlier run, which printed its seed, in their order; 0 takes a new one."`
	DataDir string        `type:"path" placeholder:"DIR" help:"Where everything is kept; removed if nothing was wrong. A temporary directory, if not set."`
}

// Help follows the flags' own help.
func (*tortureCmd) Help() string {
	return `Starts a private Postgres and Redis, api, two streamers, three consumers of two names and a simulator, injects faults at random moments, and audits all the time. The streamers and consumers also fail on purpose after every tenth batch. At the end it prints how often each fault came, how long it took until the consumers went on, and whether each promise was kept. Exits with 0 if all were, else with 1, and keeps everything for a look.

The faults:

` + torture.Help() + `
For example, a bad network between clients and api: rocketrides torture --rate=500 --faults=cut-clients,refuse-clients,isolate-clients,deafen-clients`
}

// Validate refuses what cannot be done.
func (c *tortureCmd) Validate() error {
	switch {
	case c.For <= 0:
		return fmt.Errorf("--for is %v: it must be over 0", c.For)
	case !(c.Rate > 0 && c.Rate <= maxRate):
		return rateError(c.Rate)
	}
	for _, name := range c.Faults {
		if !slices.Contains(torture.Names(), name) {
			return fmt.Errorf("--faults: there is no %q: choose from %s", name, strings.Join(torture.Names(), ", "))
		}
	}
	return nil
}

func (c *tortureCmd) Run(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if c.DataDir == "" {
		if c.DataDir, err = os.MkdirTemp("", "rocketrides-torture-"); err != nil {
			return err
		}
	}
	if len(c.Faults) == 0 {
		c.Faults = torture.Names()
	}
	err = torture.Run(ctx, torture.Config{
		Command: exe,
		Migrate: migrateAll,
		DataDir: c.DataDir,
		Rate:    c.Rate,
		Faults:  c.Faults,
		Seed:    cmp.Or(c.Seed, rand.Uint64()),
		For:     c.For,
		Out:     os.Stdout,
		Live:    term.IsTerminal(int(os.Stdout.Fd())),
	})
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted before the end: nothing was judged")
	}
	return err
}
