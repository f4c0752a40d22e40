package cli

import (
	"context"
	"log/slog"
	"net"
	"strconv"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
	"github.com/rocketrides/unilog/switchlog"
)

// Dashboard shows the system live.
type Dashboard struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`

	Port   uint16 `help:"TCP port to listen on." env:"DASHBOARD_PORT" default:"5006"`
	Listen string `help:"Address or host name to listen on. Whoever reaches it sees everything." default:"127.0.0.1"`

	// Control is the socket of a supervisor that tells of its processes and, unless
	// ReadOnly, takes actions.
	Control  string `kong:"-"`
	ReadOnly bool   `kong:"-"`
}

// Help follows the flags' own help.
func (Dashboard) Help() string {
	return `Shows the way of the records, the lag and latency of each consumer, the audit if there is one, and what goes wrong and how it ends, in a browser.`
}

// Run serves until ctx ends.
func (c *Dashboard) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	var waits AdminFlags // it tells nobody of its health
	var db *pgxpool.Pool
	err := waits.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		db, err = c.connect(ctx, p, writers)
		return err
	})
	if err != nil {
		return err
	}
	defer ClosePool(db)
	var stream switchlog.Engine
	err = waits.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		stream, err = c.LogFlags.Open(ctx, p, db, c.Schema)
		return err
	})
	if err != nil {
		return err
	}
	defer stream.Close()
	cfg := p.dashboard(db, c.Schema, stream)
	cfg.Addr = net.JoinHostPort(c.Listen, strconv.Itoa(int(c.Port)))
	cfg.Control, cfg.ReadOnly, cfg.Logger = c.Control, c.ReadOnly, log
	return dashboard.New(cfg).Run(ctx)
}

func (*Dashboard) runsUntilTold() bool { return true }

// dashboard is what a page or a terminal shows of this program.
func (p *Program) dashboard(db *pgxpool.Pool, schema unilog.Schema, log switchlog.Engine) dashboard.Config {
	return dashboard.Config{
		DB: db, Schema: schema, Log: log, Engine: func() string { return engineName(log) },
		Audit: p.Audit, Words: p.Words, Program: p.Name,
	}
}
