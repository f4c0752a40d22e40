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

	"github.com/rocketrides/unilog/rocketrides/internal/torture"
)

type tortureCmd struct {
	Engine     string        `default:"redis" enum:"redis,sentinel,cluster,kafka,kafka3,postgres" help:"What the log is in: ${enum}."`
	Partitions int           `default:"1" help:"How many partitions the log has."`
	Instances  int           `default:"1" help:"How many processes each consumer has; the first has two at least."`
	Streamers  int           `default:"2" help:"How many streamers there are."`
	For        time.Duration `default:"60s" help:"How long to inject faults, as 60s or 10m."`
	Rate       float64       `default:"200" help:"Rides a second."`
	Faults     []string      `placeholder:"NAME" help:"Inject only these, each once at least."`
	Every      time.Duration `placeholder:"3s" help:"Inject one fault at a time, at this beat. At random moments, if not set."`
	Patience   time.Duration `default:"90s" help:"The system is stuck if it takes longer to go on after a fault."`
	Seed       uint64        `default:"0" help:"Repeats the faults of an earlier run, which printed its seed, in their order; 0 takes a new one."`
	DataDir    string        `type:"path" placeholder:"DIR" help:"Where everything is kept; removed if nothing was wrong. A temporary directory, if not set."`
}

// Help follows the flags' own help.
func (*tortureCmd) Help() string {
	return `Starts a private Postgres, a private Redis or the servers of another engine, api, streamers, consumers of two names and a simulator, injects faults at random moments, and audits all the time. The streamers and consumers also fail on purpose after every tenth batch. At the end it prints how often each fault came, how long it took until the consumers went on, and whether each promise was kept. Exits with 0 if all were, else with 1, and keeps everything for a look.

The faults. ` + torture.Help() + `
For example, a bad network between clients and api: rocketrides torture --rate=500 --faults=cut-clients,refuse-clients,isolate-clients,deafen-clients
Or how long a partition stands still when the processes of a consumer die: rocketrides torture --partitions=8 --instances=4 --rate=2000 --faults=kill-consumer --every=3s`
}

const (
	// maxTortured bounds the processes of a sort, all on one machine.
	maxTortured = 16
	// maxTorturedPartitions bounds the sessions of their leaders, which one private
	// Postgres has to bear.
	maxTorturedPartitions = 16
)

// Validate refuses what cannot be done.
func (c *tortureCmd) Validate() error {
	switch {
	case c.For <= 0:
		return fmt.Errorf("--for is %v: it must be over 0", c.For)
	case !(c.Rate > 0 && c.Rate <= maxRate):
		return rateError(c.Rate)
	case c.Every < 0:
		return fmt.Errorf("--every is %v: it must be 0 or more", c.Every)
	case c.Patience <= 0:
		return fmt.Errorf("--patience is %v: it must be over 0", c.Patience)
	}
	for _, number := range []struct {
		flag    string
		is, max int
	}{{"--partitions", c.Partitions, maxTorturedPartitions}, {"--instances", c.Instances, maxTortured}, {"--streamers", c.Streamers, maxTortured}} {
		if number.is < 1 || number.is > number.max {
			return fmt.Errorf("%s is %d: it must be from 1 to %d", number.flag, number.is, number.max)
		}
	}
	names := torture.Names(c.Engine)
	for _, name := range c.Faults {
		if !slices.Contains(names, name) {
			return fmt.Errorf("--faults: there is no %q of %s: choose from %s", name, c.Engine, strings.Join(names, ", "))
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
	each := len(c.Faults) > 0
	if !each {
		c.Faults = torture.ByDefault(c.Engine, c.Partitions)
	}
	err = torture.Run(ctx, torture.Config{
		Command:    exe,
		Migrate:    migrateAll,
		DataDir:    c.DataDir,
		Engine:     c.Engine,
		Partitions: c.Partitions,
		Instances:  c.Instances,
		Streamers:  c.Streamers,
		Rate:       c.Rate,
		Faults:     c.Faults,
		Every:      c.Every,
		Each:       each,
		Patience:   c.Patience,
		Seed:       cmp.Or(c.Seed, rand.Uint64()),
		For:        c.For,
		Out:        os.Stdout,
		Live:       term.IsTerminal(int(os.Stdout.Fd())),
	})
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted before the end: nothing was judged")
	}
	return err
}
