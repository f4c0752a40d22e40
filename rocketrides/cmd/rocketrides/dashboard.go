package main

import (
	"context"
	"log/slog"
	"net"
	"strconv"

	"github.com/rocketrides/unilog/rocketrides/internal/dashboard"
)

// dashboardCmd shows the system live.
type dashboardCmd struct {
	databaseFlags `embed:""`
	logFlags      `embed:""`

	Port     uint16 `help:"TCP port to listen on." env:"DASHBOARD_PORT" default:"5006"`
	Listen   string `help:"Address or host name to listen on. Whoever reaches it sees everything, and, under up, may stop and start processes unless it is --read-only." default:"127.0.0.1"`
	ReadOnly bool   `help:"Show everything and change nothing."`
	Control  string `hidden:"" env:"ROCKETRIDES_CONTROL" help:"The socket of up."`
}

// Help follows the flags' own help.
func (dashboardCmd) Help() string {
	return `Shows the way of the records, the lag and latency of each consumer, the audit, and what goes wrong and how it ends, in a browser. Under up, it also stops, freezes and restarts processes.`
}

// Run serves until ctx ends.
func (c *dashboardCmd) Run(ctx context.Context, log *slog.Logger) error {
	db, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(db)
	stream, err := c.logFlags.open(ctx, db)
	if err != nil {
		return err
	}
	defer stream.Close()
	return dashboard.New(dashboard.Config{
		DB:       db,
		Log:      stream,
		Addr:     net.JoinHostPort(c.Listen, strconv.Itoa(int(c.Port))),
		Control:  c.Control,
		ReadOnly: c.ReadOnly,
		Logger:   log,
	}).Run(ctx)
}
