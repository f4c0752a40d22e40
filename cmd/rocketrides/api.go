package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/rocketrides/unilog/internal/rides"
)

// apiCmd takes bookings.
type apiCmd struct {
	databaseFlags `embed:""`

	Port    uint16 `help:"TCP port to listen on." env:"API_PORT" default:"5005"`
	Listen  string `help:"Address or host name to listen on. The default is for this machine alone; 0.0.0.0 is for every network that it is on." default:"127.0.0.1"`
	Verbose bool   `help:"Log every request, not only those that failed." env:"VERBOSE"`
}

// Help follows the flags' own help.
func (apiCmd) Help() string {
	return `Each ride is written in one Postgres transaction with the log record that tells of it.
Rides that wait at the same time share one.

  POST /rides        books a ride; form or JSON, field "distance" in metres
  GET  /rides/{id}   shows it
  GET  /healthz      whether this process is alive
  GET  /readyz       whether its database answers

For example: curl -d distance=123.0 http://127.0.0.1:5005/rides`
}

// Run serves until ctx ends.
func (c *apiCmd) Run(ctx context.Context, log *slog.Logger) error {
	pool, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	// A small heap that fills up fast: a tenth of the processor's time at full
	// load, for some 15 MB of memory.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	api, err := rides.NewAPI(rides.APIConfig{
		DB:      rides.Pool{Pool: pool},
		Addr:    net.JoinHostPort(c.Listen, strconv.Itoa(int(c.Port))),
		Verbose: c.Verbose,
		Log:     log,
	})
	if err != nil {
		return err
	}
	return api.Run(ctx)
}
