package main

import (
	"context"
	"log/slog"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
)

// dashboardCmd is unilog's, with the buttons of up.
type dashboardCmd struct {
	cli.Dashboard `embed:""`
	NoActions     bool   `name:"read-only" help:"Show everything and change nothing: else, under up, who reaches it may stop and start processes."`
	Socket        string `hidden:"" name:"control" env:"ROCKETRIDES_CONTROL" help:"The socket of up."`
}

// Help follows the flags' own help.
func (c *dashboardCmd) Help() string {
	return c.Dashboard.Help() + " Under up, it also stops, freezes and restarts processes."
}

func (c *dashboardCmd) Run(ctx context.Context, log *slog.Logger, p *cli.Program) error {
	c.Control, c.ReadOnly = c.Socket, c.NoActions
	return c.Dashboard.Run(ctx, log, p)
}
