package torture

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// kafkaFaults befall any of Kafka's brokers, one at a time; the first one is the
// controller.
var kafkaFaults = []fault{
	{name: "kill-broker", does: "SIGKILL to a broker, which is started again up to 1 s later", inject: killBroker},
	{name: "freeze-broker", does: "SIGSTOP to a broker for up to 3 s", inject: freezeBroker},
}

// brokersFaults befall one broker that the others can do without.
var brokersFaults = []fault{
	{name: "lose-broker", does: "SIGKILL to a broker, which is started again when the others have gone on", inject: loseBroker, fromStart: true},
}

// brokerTimeout bounds the start of a broker.
const brokerTimeout = 2 * time.Minute

func killBroker(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	b := x.kafka.Brokers[x.random.IntN(len(x.kafka.Brokers))]
	b.Kill()
	pause(ctx, x.lasting(time.Second))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	return b.Restart(ctx)
}

func freezeBroker(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	b := x.kafka.Brokers[x.random.IntN(len(x.kafka.Brokers))]
	if err := b.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, x.lasting(3*time.Second))
	return b.Signal(syscall.SIGCONT)
}

func loseBroker(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	b := x.kafka.Brokers[1+x.random.IntN(len(x.kafka.Brokers)-1)]
	b.Kill()
	close(x.begun)
	err := x.watch.await(ctx, time.Now(), x.Patience)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	return errors.Join(err, b.Restart(ctx))
}
