package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

// simulatorCmd books random rides.
type simulatorCmd struct {
	cli.AdminFlags `embed:""`
	settingsFlags  `embed:""`

	Port         uint16        `help:"Port of the api on this machine; --url overrides it." env:"API_PORT" default:"5005"`
	URL          string        `name:"url" help:"Where the api is, if not on this machine: http://HOST:PORT or https://HOST:PORT." env:"API_URL" placeholder:"URL"`
	CA           string        `name:"ca" help:"Trust the authorities in this PEM file, instead of the system's, for an api at https://." env:"API_CA" placeholder:"FILE"`
	TokenFile    string        `name:"token-file" help:"The token for an api that asks for one is in this file; or set API_TOKEN." placeholder:"FILE"`
	Rate         float64       `help:"Rides a second, on average; at most 1000000." env:"SIMULATOR_RATE" default:"10"`
	Concurrency  int           `help:"Requests in flight at most. A ride that comes due while all are taken is not sent, but counted." env:"SIMULATOR_CONCURRENCY" default:"64"`
	For          time.Duration `help:"How long to go on, as 30s or 5m; 0 until stopped." env:"SIMULATOR_FOR" default:"0s"`
	Seed         uint64        `help:"Repeats the rides of an earlier run, which printed its seed; 0 for new ones." env:"SIMULATOR_SEED" default:"0"`
	Acknowledged string        `help:"Append a line of JSON to this file for each ride that the api acknowledges: its id, and when it was sent and answered." type:"path" placeholder:"FILE"`
}

// Help follows the flags' own help.
func (simulatorCmd) Help() string {
	return `Rides are of 5 to 1,000 m. The simulator waits up to 30 s for the api to be there. Rides come due at random times whether the api is fast or slow. It prints each response or, above 20 rides a second, a summary each second. A ride whose answer is lost, or is a 5xx, is sent again for a minute, with the same Idempotency-Key, so that it is booked once. It exits with an error if rides failed.

For example: rocketrides simulator --rate 200 --for 30s`
}

// maxRate is the simulator's limit.
const maxRate = 1_000_000

func rateError(rate float64) error {
	return fmt.Errorf("--rate is %g: it must be over 0 and at most %d", rate, maxRate)
}

// Validate refuses the zeros that the simulator would take for its defaults.
func (c *simulatorCmd) Validate() error {
	if !(c.Rate > 0 && c.Rate <= maxRate) { // nor NaN
		return rateError(c.Rate)
	}
	if c.Concurrency < 1 {
		return fmt.Errorf("--concurrency is %d: it must be at least 1", c.Concurrency)
	}
	return nil
}

// Run books rides until its time is over or ctx ends.
func (c *simulatorCmd) Run(ctx context.Context, log *slog.Logger) error {
	url := c.URL
	if url == "" {
		url = "http://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port)))
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	cfg := rides.SimulatorConfig{
		URL:         url,
		CA:          c.CA,
		Token:       token,
		Rate:        c.Rate,
		Concurrency: c.Concurrency,
		For:         c.For,
		Seed:        c.Seed,
	}
	if c.Acknowledged != "" {
		file, err := os.OpenFile(c.Acknowledged, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fmt.Errorf("--acknowledged: %w", err)
		}
		defer file.Close()
		cfg.Acknowledged = file
	}
	reg := c.Registry()
	if reg != nil {
		cfg.Metrics = rides.NewSimulatorMetrics(reg)
	}
	s, err := rides.NewSimulator(cfg)
	if err != nil {
		return err
	}
	if err := c.follow(ctx, log, func(now up.Settings) { s.SetRate(now.Rate) }); err != nil {
		return err
	}
	ready := func(context.Context) error { return nil }
	return c.Serve(ctx, log, reg, ready, s.Run)
}

// token is never taken from the command line, which everyone on the machine sees.
func (c *simulatorCmd) token() (string, error) {
	if c.TokenFile == "" {
		return os.Getenv("API_TOKEN"), nil
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
