package cli

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/switchlog"
)

// WorkerFlags are those of a process that works on the log until it is told to end.
type WorkerFlags struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	AdminFlags    `embed:""`
	SafetyFlags   `embed:""`
}

// Servers are what such a process works with.
type Servers struct {
	DB     *pgxpool.Pool
	Log    switchlog.Engine
	Safety *Safety
}

// Reach opens them, waits for those that are not up yet, and refuses what is unsafe for
// the process.
func (f *WorkerFlags) Reach(ctx context.Context, log *slog.Logger, p *Program, process doctor.Process) (_ *Servers, err error) {
	s := new(Servers)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	needs := both
	if process == doctor.Streamer {
		needs = writers
	}
	err = f.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		s.DB, err = f.connect(ctx, p, needs)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = f.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		s.Log, err = f.LogFlags.Open(ctx, p, s.DB, f.Schema)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = f.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		s.Safety, err = f.Examine(ctx, log, p, process, s.DB, f.Schema, s.Log)
		return err
	})
	return s, err
}

// Close closes what was opened.
func (s *Servers) Close() {
	if s.Log != nil {
		s.Log.Close()
	}
	if s.DB != nil {
		ClosePool(s.DB)
	}
}
