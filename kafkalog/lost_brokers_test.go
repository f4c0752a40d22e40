package kafkalog_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/logtest"
)

// appendAll appends entries up to one, in batches, as a streamer does: it tries
// again until the log has each, and gives it more time when that was too little.
func appendAll(ctx context.Context, log *kafkalog.Log, epoch, last, batch int64) error {
	for first := int64(1); first <= last; first += batch {
		for bound := 5 * time.Second; ; bound *= 2 {
			call, cancel := context.WithTimeout(ctx, bound)
			head, err := log.Append(call, term(epoch), entries(first, min(last, first+batch-1)))
			cancel()
			if err == nil || errors.Is(err, unilog.ErrAlreadyAppended) && head >= min(last, first+batch-1) {
				break
			}
			var fenced *unilog.FencedError
			if ctx.Err() != nil || errors.As(err, &fenced) || errors.Is(err, unilog.ErrBehind) {
				return fmt.Errorf("append from %d on: head %d: %w", first, head, err)
			}
		}
	}
	return nil
}

// bounded bounds each call that writes, as a streamer does, and makes it again, with
// more time, when that was too little: what Kafka was asked while a broker died may
// never be answered.
type bounded struct {
	*kafkalog.Log
	mu    *sync.Mutex
	taken map[int64]bool // first offsets of what was appended, and said so
}

func newBounded(log *kafkalog.Log) bounded { return bounded{log, new(sync.Mutex), map[int64]bool{}} }

func again(ctx context.Context, call func(context.Context) error) error {
	for bound := 5 * time.Second; ; bound *= 2 {
		limited, cancel := context.WithTimeout(ctx, bound)
		err := call(limited)
		isLate := limited.Err() != nil
		cancel()
		if err == nil || !isLate || ctx.Err() != nil {
			return err
		}
	}
}

// Append says of what the log has already that it was appended, if nobody was told so:
// then a call that was given up has done it.
func (b bounded) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (head int64, err error) {
	first, last := entries[0].Offset, entries[len(entries)-1].Offset
	calls := 0
	err = again(ctx, func(ctx context.Context) (err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		calls++
		head, err = b.Log.Append(ctx, term, entries)
		if calls > 1 && errors.Is(err, unilog.ErrAlreadyAppended) && head == last && !b.taken[first] {
			err = nil
		}
		b.taken[first] = b.taken[first] || err == nil
		return err
	})
	return head, err
}

func (b bounded) Claim(ctx context.Context, term unilog.Term) (head int64, err error) {
	err = again(ctx, func(ctx context.Context) (err error) {
		head, err = b.Log.Claim(ctx, term)
		return err
	})
	return head, err
}

func (b bounded) Reset(ctx context.Context, term unilog.Term, head int64) error {
	return again(ctx, func(ctx context.Context) error { return b.Log.Reset(ctx, term, head) })
}

func (b bounded) Trim(ctx context.Context, partition int, upTo int64) error {
	return again(ctx, func(ctx context.Context) error { return b.Log.Trim(ctx, partition, upTo) })
}

// TestKafkaTwoOfOneEpoch lets two processes append the same at once. Each fences the
// other's transactions again and again.
func TestKafkaTwoOfOneEpoch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var group errgroup.Group
	ctx := await.Context(t, "all to be appended")
	for _, log := range []*kafkalog.Log{f.log, f.another()} {
		group.Go(func() error { return appendAll(ctx, log, 1, 60, 3) })
	}
	f.must(group.Wait())
	f.wantCommitted(60)
}

// TestKafkaLeadersInTurn hands the lead over while the leader before goes on.
func TestKafkaLeadersInTurn(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var fenced atomic.Int32
	var group errgroup.Group
	for epoch := range int64(6) {
		log := f.another()
		head := claimAgain(f, log, epoch+1)
		passed := make(chan struct{})
		group.Go(func() error {
			unknown := false
			for n := head + 1; ; {
				_, err := log.Append(t.Context(), term(epoch+1), entries(n, n))
				var newer *unilog.FencedError
				switch {
				case errors.As(err, &newer):
					fenced.Add(1)
					return nil
				case overtaken(err):
					unknown = true
					continue
				case err != nil && (!unknown || !errors.Is(err, unilog.ErrAlreadyAppended)):
					return err
				}
				unknown = false
				if n == head+5 {
					close(passed)
				}
				n++
			}
		})
		await.Receive(t, "a leader to append", passed)
	}
	head := claimAgain(f, f.log, 100)
	f.must(group.Wait())
	if n := fenced.Load(); n != 6 {
		t.Errorf("%d of 6 leaders were fenced", n)
	}
	f.wantCommitted(int(head))
}

// claimAgain claims as a streamer does, which tries again when a leader of before has begun
// its producer anew between the steps of a claim.
func claimAgain(f *fixture, log *kafkalog.Log, epoch int64) int64 {
	f.Helper()
	for {
		head, err := log.Claim(f.Context(), term(epoch))
		if !overtaken(err) {
			f.must(err)
			return head
		}
	}
}

// overtaken says whether a call failed since another producer began at the same time,
// each time that it was tried. What became of it is not known.
func overtaken(err error) bool {
	return errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidTxnState)
}

// TestKafkaBrokersDie kills brokers of three, once each, with SIGKILL.
func TestKafkaBrokersDie(t *testing.T) {
	t.Parallel()
	cluster := testenv.Kafka(t, kafka.Options{Brokers: 3})
	if !t.Run("that leads the partition", func(t *testing.T) { testLeaderDies(t, cluster) }) {
		t.FailNow()
	}
	t.Run("in the middle of the suite", func(t *testing.T) {
		var tests atomic.Int32
		logtest.Run(t, func(t *testing.T) logtest.Harness {
			f := open(t, cluster.Addresses())
			if tests.Add(1) == 10 {
				cluster.Brokers[2].Kill()
			}
			return logtest.Harness{Log: newBounded(f.log), Wipe: func(*testing.T) { f.wipe() }}
		})
	})
	t.Run("before a topic is made", func(t *testing.T) { testTopicWithoutBroker(t, cluster) })
}

// testTopicWithoutBroker makes a topic while the third broker, which is dead, is away.
func testTopicWithoutBroker(t *testing.T, cluster *kafka.Cluster) {
	f := open(t, cluster.Addresses())
	await.Equal(t, "brokers that are up", 2, func() int {
		brokers, err := f.admin.ListBrokers(t.Context())
		f.must(err)
		return len(brokers)
	})
	f.wipe()
	f.append(1, entry(1)) // makes the topic
	topics, err := f.admin.ListTopics(t.Context(), f.topic)
	f.must(err)
	if n := topics[f.topic].Partitions.NumReplicas(); n != 3 {
		t.Errorf("the topic has %d replicas", n)
	}
}

// testLeaderDies appends and reads while the broker that leads the partition is
// killed.
func testLeaderDies(t *testing.T, cluster *kafka.Cluster) {
	f := open(t, cluster.Addresses())
	leader := f.leader(cluster)
	for leader == cluster.Brokers[0] { // the controller, which must live
		f = open(t, cluster.Addresses())
		leader = f.leader(cluster)
	}
	const last = 6000
	var group errgroup.Group
	ctx := await.Context(t, "all to be appended and read")
	group.Go(func() error { return appendAll(ctx, f.log, 1, last, 50) })

	reader := f.another()
	var at unilog.Cursor
	bound := 5 * time.Second
	for killed := false; at.Offset < last; {
		call, cancel := context.WithTimeout(ctx, bound)
		read, err := reader.Read(call, 0, at, 1000, time.Second)
		cancel()
		if err != nil { // while nobody leads the partition, or this is slow
			if ctx.Err() != nil {
				t.Fatalf("%v, after offset %d: %v", context.Cause(ctx), at.Offset, err)
			}
			bound *= 2
			continue
		}
		bound = 5 * time.Second
		for _, e := range read {
			if e.Offset != at.Offset+1 {
				t.Fatalf("offset %d follows %d", e.Offset, at.Offset)
			}
			at = unilog.Cursor{Offset: e.Offset, Position: e.Position}
		}
		if at.Offset > last/4 && !killed {
			killed = true
			leader.Kill()
		}
	}
	f.must(group.Wait())
	f.wantCommitted(last)
	f.must(leader.Restart(t.Context()))
}

// leader returns the broker that leads the topic's first partition, once one does:
// a new topic is known before it has a leader.
func (f *fixture) leader(cluster *kafka.Cluster) *kafka.Broker {
	f.Helper()
	var leader *kafka.Broker
	await.That(f, "a broker to lead "+f.topic, func() (instead string) {
		metadata, err := f.admin.Metadata(f.Context(), f.topic)
		if err != nil {
			return err.Error()
		}
		partition := metadata.Topics[f.topic].Partitions[0] // the zero value if there is none
		for _, b := range metadata.Brokers {
			if b.NodeID != partition.Leader {
				continue
			}
			address := fmt.Sprintf("%s:%d", b.Host, b.Port)
			if i := slices.IndexFunc(cluster.Brokers, func(b *kafka.Broker) bool { return b.Address == address }); i >= 0 {
				leader = cluster.Brokers[i]
				return ""
			}
		}
		return fmt.Sprintf("%+v of brokers %+v", partition, metadata.Brokers)
	})
	return leader
}
