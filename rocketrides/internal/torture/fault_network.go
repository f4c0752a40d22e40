package torture

import (
	"context"
	"time"

	"github.com/rocketrides/unilog/internal/proxy"
)

// networkFaults befall the ways to the servers, and that from the clients.
var networkFaults = []fault{
	{name: "cut-connections", does: "all connections of all processes are reset", inject: cutAll},
	{name: "cut-process", does: "the connections of one process are reset", inject: cutOne},
	{name: "refuse", does: "one process can open no connection for up to 2 s", inject: refuse(apiRole, streamerRole, consumerRole)},
	{name: "isolate-api", does: "what the api sends and is sent is lost for up to 3 s, without a word", inject: isolate(proxy.Both, apiRole)},
	{name: "isolate-consumer", does: "the same of an instance of a consumer", inject: isolate(proxy.Both, consumerRole)},
	{name: "isolate-leader", does: "the same of the streamer that leads, until after another one does", inject: isolateLeader, fromStart: true},
	{name: "lose-answers", does: "all that the servers send to one process is lost for up to 3 s", inject: isolate(proxy.ToClient, apiRole, streamerRole, consumerRole)},
	{name: "slow-network", does: "everything takes up to 50 ms longer, at 50 KB/s, for up to 3 s", inject: slow},
	{name: "cut-clients", does: "the simulator's connections to the api are reset, with a request or an answer on its way, up to 3 s long", inject: cutClients},
	{name: "refuse-clients", does: "the simulator can open no connection to the api for up to 2 s", inject: refuse(simulatorRole)},
	{name: "isolate-clients", does: "what the simulator and the api send each other is lost for up to 3 s", inject: isolate(proxy.Both, simulatorRole)},
	{name: "deafen-clients", does: "what the api answers the simulator is lost for up to 3 s", inject: isolate(proxy.ToClient, simulatorRole)},
}

func (t *torture) disturb(do func(*proxy.Proxy)) {
	for _, c := range t.children {
		c.disturb(do)
	}
}

func (c *child) disturb(do func(*proxy.Proxy)) {
	for _, p := range c.proxies() {
		do(p)
	}
}

func cutAll(_ context.Context, x *injection) error {
	x.disturb((*proxy.Proxy).Cut)
	return nil
}

func cutOne(_ context.Context, x *injection) error {
	x.one(apiRole, streamerRole, consumerRole).disturb((*proxy.Proxy).Cut)
	return nil
}

func refuse(roles ...role) func(context.Context, *injection) error {
	return func(ctx context.Context, x *injection) error {
		c := x.one(roles...)
		c.disturb(func(p *proxy.Proxy) {
			p.Refuse(true)
			p.Cut()
		})
		pause(ctx, x.lasting(2*time.Second))
		c.disturb(func(p *proxy.Proxy) { p.Refuse(false) })
		return nil
	}
}

func isolate(d proxy.Direction, roles ...role) func(context.Context, *injection) error {
	return func(ctx context.Context, x *injection) error {
		c := x.one(roles...)
		c.disturb(func(p *proxy.Proxy) { p.Blackhole(d) })
		pause(ctx, x.lasting(3*time.Second))
		c.disturb(func(p *proxy.Proxy) { p.Blackhole(0) })
		return nil
	}
}

func isolateLeader(ctx context.Context, x *injection) error {
	c, err := x.leader(ctx)
	if err != nil {
		return err
	}
	c.disturb(func(p *proxy.Proxy) { p.Blackhole(proxy.Both) })
	close(x.begun)
	x.awaitOther(ctx, c)
	c.disturb(func(p *proxy.Proxy) { p.Blackhole(0) })
	return nil
}

func slow(ctx context.Context, x *injection) error {
	latency := x.lasting(time.Second) / 20
	x.disturb(func(p *proxy.Proxy) { p.Slow(latency, 50_000) })
	pause(ctx, x.lasting(3*time.Second))
	x.disturb(func(p *proxy.Proxy) { p.Slow(0, 0) })
	return nil
}

// cutClients cuts one connection after the other, at a message that it counts
// down to, unless another one of its kind counts instead.
func cutClients(ctx context.Context, x *injection) error {
	way := x.one(simulatorRole).api
	over := time.After(x.lasting(3 * time.Second))
	for {
		select {
		case <-way.CutAt(proxy.Direction(1+x.random.IntN(2)), proxy.Nth(1+x.random.IntN(50))):
		case <-over:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}
