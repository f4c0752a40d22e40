package testenv

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/rocketrides/unilog/internal/kafka"
)

// sharedKafka is the broker that all tests of this process share.
var sharedKafka = struct {
	start   func() (*kafka.Cluster, error)
	cluster *kafka.Cluster
}{}

func init() {
	sharedKafka.start = sync.OnceValues(func() (*kafka.Cluster, error) {
		// Nobody kills it, and a broker that is only slow must not count as gone.
		c, err := startKafka(kafka.Options{Properties: []string{"broker.session.timeout.ms=300000"}})
		sharedKafka.cluster = c
		return c, err
	})
}

func startKafka(o kafka.Options) (*kafka.Cluster, error) {
	base, err := shared.base()
	if err != nil {
		return nil, err
	}
	if o.Dir, err = os.MkdirTemp(base.path, ""); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return kafka.Start(ctx, o)
}

// SharedKafka returns the address of the broker that all tests of this process
// share: use StreamName for topics. Without Kafka the test is skipped, or fails
// under CI.
func SharedKafka(t testing.TB) string {
	t.Helper()
	inSuite(t, "Kafka")
	c, err := sharedKafka.start()
	needKafka(t, err)
	return c.Addresses()
}

// Kafka starts a cluster of the test's own. See
// SharedKafka.
func Kafka(t testing.TB, o kafka.Options) *kafka.Cluster {
	t.Helper()
	inSuite(t, "Kafka")
	c, err := startKafka(o)
	needKafka(t, err)
	t.Cleanup(c.Kill)
	return c
}

// NeedKafka skips the test without Kafka, or fails it under CI.
func NeedKafka(t testing.TB) {
	t.Helper()
	inSuite(t, "Kafka")
	needKafka(t, kafka.Check(t.Context()))
}

func needKafka(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, kafka.ErrMissing) && !inCI() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func inCI() bool {
	ci := os.Getenv("CI")
	return ci != "" && ci != "false"
}

func stopKafka() {
	if sharedKafka.cluster != nil {
		sharedKafka.cluster.Stop()
	}
}
