package main

import (
	"context"
	"net"
	"strconv"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
)

// probeCmd is unilog's, which asks the api where no process tells operators.
type probeCmd struct {
	cli.Probe `embed:""`
	Port      uint16 `env:"API_PORT" default:"5005" help:"Where the api answers everyone; asked if --admin-listen is not set."`
}

func (c *probeCmd) Run(ctx context.Context) error {
	c.Otherwise = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port)))
	return c.Probe.Run(ctx)
}
