package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/redisnodes"
)

// engine is what keeps a log, in part scale.
type engine struct {
	name, title string
	// start starts it, if it does not run yet. Errors of what is not installed are
	// kafka.ErrMissing.
	start func(s *servers, ctx context.Context) error
	// url is that of a world's log, "" if it is in the Redis of all parts.
	url func(w *world) string
	// limit is how many records a second it takes, of so many writers.
	limit func(w *world, ctx context.Context, records, writers int) (limit, error)
}

var engines = []engine{
	{
		"redis", "Redis", func(*servers, context.Context) error { return nil },
		func(*world) string { return "" }, (*world).redisBenchmark,
	},
	{
		"cluster", "Redis Cluster", (*servers).startCluster,
		func(w *world) string { return w.servers.cluster.URL() }, (*world).clusterBenchmark,
	},
	{
		"kafka", "Kafka", (*servers).startKafka,
		func(w *world) string { return "kafka://" + w.servers.kafka.Addresses() + "/" + w.name }, (*world).producerPerformance,
	},
	{
		"postgres", "Postgres alone", func(*servers, context.Context) error { return nil },
		func(*world) string { return "postgres:" }, (*world).pgbenchArchive,
	},
}

// Engines returns the names of all engines.
func Engines() []string {
	var names []string
	for _, e := range engines {
		names = append(names, e.name)
	}
	return names
}

// startCluster starts three masters with a replica each, which sync each write to
// disk, as the Redis of the other parts does.
func (s *servers) startCluster(ctx context.Context) (err error) {
	if s.cluster != nil {
		return nil
	}
	dir := s.place("cluster")
	if err := os.Mkdir(dir, 0o711); err != nil {
		return err
	}
	if s.cluster, err = redisnodes.StartCluster(ctx, dir); err != nil {
		return err
	}
	for _, node := range s.cluster.Servers {
		// A node that has much to do is not to be taken for dead.
		err := node.Do(ctx, "CONFIG", "SET", "appendfsync", "always", "appendonly", "yes", "cluster-node-timeout", "15000").Error()
		if err != nil {
			return fmt.Errorf("set up the cluster: %w", err)
		}
	}
	return s.cluster.Whole(ctx)
}

// startKafka starts one broker, which leaves it to the system when to write to
// disk, as brokers do.
func (s *servers) startKafka(ctx context.Context) (err error) {
	if s.kafka != nil {
		return nil
	}
	dir := s.place("kafka")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.kafka, err = kafka.Start(ctx, kafka.Options{Dir: dir, Java: []string{"-Xmx1g"}})
	return err
}

// clearCluster removes all keys of the masters, and so of their replicas.
func (s *servers) clearCluster(ctx context.Context) error {
	var errs []error
	for _, node := range s.cluster.Servers[:3] {
		errs = append(errs, node.Do(ctx, "FLUSHALL").Error())
	}
	return errors.Join(errs...)
}

func (w *world) clusterBenchmark(ctx context.Context, records, writers int) (limit, error) {
	u, err := url.Parse(w.servers.cluster.URL())
	if err != nil {
		return limit{}, err
	}
	password, _ := u.User.Password()
	port := strconv.Itoa(w.servers.cluster.Servers[0].Port)
	return w.benchmarkXADD(ctx, records, writers, "limit:{tag}", "-h", "127.0.0.1", "-p", port, "-a", password, "--cluster")
}

// recordBytes is what a record of the log takes in Kafka, with its headers and
// before the batch around it.
const recordBytes = 150

// producerPerformance measures how many records a second Kafka takes, from one
// producer into as many partitions as there are writers, without transactions.
func (w *world) producerPerformance(ctx context.Context, records, partitions int) (limit, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(w.servers.kafka.Addresses()))
	if err != nil {
		return limit{}, err
	}
	defer client.Close()
	topic := fmt.Sprintf("%s-limit-%d", w.name, partitions)
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(partitions), 1, nil, topic); err != nil {
		return limit{}, fmt.Errorf("make a topic: %w", err)
	}
	w.progress.show(0.9, "ProducerPerformance")
	cmd := w.servers.kafka.Command("org.apache.kafka.tools.ProducerPerformance", "--topic", topic,
		"--num-records", strconv.Itoa(records), "--record-size", strconv.Itoa(recordBytes), "--throughput", "-1",
		"--producer-props", "acks=all", "bootstrap.servers="+w.servers.kafka.Addresses())
	rate, err := run(ctx, producerRate, cmd.Path, cmd.Args[1:]...)
	return limit{"kafka-producer-perf-test, 1 producer, " + plural(partitions, "partition"), rate}, err
}
