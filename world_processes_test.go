package unilog_test

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

// process is one of consumer "sum", with connections of its own, which can be cut.
type process struct {
	p        *partitioned
	consumer *unilog.Consumer
	db       *pgxpool.Pool
	postgres *proxy.Proxy
	running  errgroup.Group
	cancel   context.CancelFunc
	leases   atomic.Pointer[[]int]
	changes  atomic.Int32
}

func (m *process) start() {
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(m.p.ctx)
	m.running.Go(func() error { return m.consumer.Run(ctx) })
	m.p.Cleanup(m.cancel)
}

// stop ends it in order.
func (m *process) stop() {
	m.p.Helper()
	m.cancel()
	m.p.ended("the process", &m.running)
}

// die ends it so that it cannot tell anyone.
func (m *process) die() {
	m.p.Helper()
	m.postgres.Refuse(true)
	m.postgres.Cut()
	m.stop()
}

// reads are the partitions that it reads, by its own account.
func (m *process) reads() string {
	leases := m.leases.Load()
	if leases == nil {
		return "nothing yet"
	}
	return fmt.Sprint(*leases)
}

// awaitReads waits until it reads just these partitions.
func (m *process) awaitReads(partitions ...int) {
	m.p.Helper()
	awaitEqual(m.p.world, "the partitions that a process reads", fmt.Sprint(partitions), m.reads)
}
