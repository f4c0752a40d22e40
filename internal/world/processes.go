package world

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/proxy"
)

// Process is one of consumer "sum", with connections of its own, which can be cut.
type Process struct {
	p        *Partitioned
	Consumer *consumer.Consumer
	DB       *pgxpool.Pool
	Postgres *proxy.Proxy
	Running  errgroup.Group
	cancel   context.CancelFunc
	leases   atomic.Pointer[[]int]
	Changes  atomic.Int32
}

func (m *Process) Start() {
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(m.p.Ctx)
	m.p.running.Add(1)
	m.Running.Go(func() error {
		defer m.p.running.Add(-1)
		return m.Consumer.Run(ctx)
	})
	m.p.Cleanup(m.cancel)
}

// Stop ends it in order.
func (m *Process) Stop() {
	m.p.Helper()
	m.cancel()
	m.p.Ended("the process", &m.Running)
}

// Die ends it so that it cannot tell anyone.
func (m *Process) Die() {
	m.p.Helper()
	m.Postgres.Refuse(true)
	m.Postgres.Cut()
	m.Stop()
}

// Reads are the partitions that it reads, by its own account.
func (m *Process) Reads() string {
	leases := m.leases.Load()
	if leases == nil {
		return "nothing yet"
	}
	return fmt.Sprint(*leases)
}

// AwaitReads waits until it reads just these partitions.
func (m *Process) AwaitReads(partitions ...int) {
	m.p.Helper()
	want := fmt.Sprint(partitions)
	AwaitEqual(m.p.World, "the partitions that a process reads", want, func() string {
		got := m.Reads()
		if got != want {
			m.p.pace()
		}
		return got
	})
}
