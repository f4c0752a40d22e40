package torture

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/status"
)

// processFaults befall the system's own processes.
var processFaults = []fault{
	{name: "kill-api", does: "SIGKILL to the api", inject: signal(syscall.SIGKILL, apiRole)},
	{name: "kill-leader", does: "SIGKILL to the streamer that leads", inject: killLeader},
	{name: "kill-consumer", does: "SIGKILL to an instance of a consumer", inject: signal(syscall.SIGKILL, consumerRole)},
	{name: "kill-processes", does: "SIGKILL to all of them at once", inject: killAll},
	{name: "stop-api", does: "SIGTERM to the api", inject: signal(syscall.SIGTERM, apiRole)},
	{name: "stop-streamer", does: "SIGTERM to a streamer", inject: signal(syscall.SIGTERM, streamerRole)},
	{name: "stop-consumer", does: "SIGTERM to an instance of a consumer", inject: signal(syscall.SIGTERM, consumerRole)},
	{name: "freeze-api", does: "SIGSTOP to the api for up to 3 s", inject: freeze(apiRole)},
	{name: "freeze-consumer", does: "SIGSTOP to an instance of a consumer for up to 3 s", inject: freeze(consumerRole)},
	{name: "freeze-leader", does: "SIGSTOP to the streamer that leads, until after another one does", inject: freezeLeader, fromStart: true},
	// Totals do not tell whether consumers keep the order across it.
	{name: "repartition", does: "the number of partitions becomes another one from 1 to 8; with --partitions over 1, or if asked for", inject: repartition, ofSeveral: true},
}

// one picks a process.
func (x *injection) one(roles ...role) *child {
	some := x.with(roles...)
	return some[x.random.IntN(len(some))]
}

// lasting is how long a fault lasts: at least 0.2 s.
func (x *injection) lasting(atMost time.Duration) time.Duration {
	const atLeast = 200 * time.Millisecond
	return atLeast + time.Duration(x.random.Int64N(int64(atMost-atLeast)))
}

func signal(sig syscall.Signal, roles ...role) func(context.Context, *injection) error {
	return func(_ context.Context, x *injection) error { return x.system.Signal(x.one(roles...).name, sig) }
}

// leader is the process that leads.
func (x *injection) leader(ctx context.Context) (*child, error) {
	status, err := status.Read(ctx, x.db, "", nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	for _, c := range x.children {
		if status.Leader != nil && status.Leader.Application == c.name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: nobody leads", errNotNow)
}

func killLeader(ctx context.Context, x *injection) error {
	c, err := x.leader(ctx)
	if err != nil {
		return err
	}
	return x.system.Signal(c.name, syscall.SIGKILL)
}

func repartition(ctx context.Context, x *injection) error {
	_, err := migration.Repartition(ctx, x.db, 1+x.random.IntN(8))
	return err
}

func killAll(_ context.Context, x *injection) error {
	var last error // some may be on their way up
	for _, c := range x.children {
		if err := x.system.Signal(c.name, syscall.SIGKILL); err != nil {
			last = err
		}
	}
	return last
}

func freeze(roles ...role) func(context.Context, *injection) error {
	return func(ctx context.Context, x *injection) error {
		name := x.one(roles...).name
		if err := x.system.Signal(name, syscall.SIGSTOP); err != nil {
			return err
		}
		pause(ctx, x.lasting(3*time.Second))
		return x.system.Signal(name, syscall.SIGCONT)
	}
}

// takeoverTimeout bounds the wait for another leader.
const takeoverTimeout = 30 * time.Second

// freezeLeader wakes the old leader up when another one leads, in the belief
// that it still does itself.
func freezeLeader(ctx context.Context, x *injection) error {
	c, err := x.leader(ctx)
	if err != nil {
		return err
	}
	if err := x.system.Signal(c.name, syscall.SIGSTOP); err != nil {
		return err
	}
	close(x.begun)
	x.awaitOther(ctx, c)
	return x.system.Signal(c.name, syscall.SIGCONT)
}

// awaitOther waits until another process leads. If none does in time, the
// consumers have stopped, and that is noticed.
func (x *injection) awaitOther(ctx context.Context, than *child) {
	ctx, cancel := context.WithTimeout(ctx, takeoverTimeout)
	defer cancel()
	for ctx.Err() == nil {
		if c, err := x.leader(ctx); err == nil && c != than {
			pause(ctx, x.lasting(time.Second))
			return
		}
		pause(ctx, 100*time.Millisecond)
	}
}
