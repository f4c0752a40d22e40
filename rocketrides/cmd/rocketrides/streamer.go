package main

import (
	"context"
	"log/slog"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
)

// streamerCmd is unilog's, which fails on purpose if asked to.
type streamerCmd struct {
	cli.Streamer `embed:""`
	failureFlags `embed:""`
}

func (c *streamerCmd) Validate() error { return c.failureFlags.Validate() }

func (c *streamerCmd) Run(ctx context.Context, log *slog.Logger, p *cli.Program) (err error) {
	c.AfterAppend, err = c.hook(ctx, log, "streamer", "simulated crash after publishing, before recording it: the batch will be sent again")
	if err != nil {
		return err
	}
	return c.Streamer.Run(ctx, log, p)
}
