package kafkalog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/logtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type fixture struct {
	testing.TB
	log     *kafkalog.Log
	brokers string
	topic   string
	client  *kgo.Client
	admin   *kadm.Client
}

func setup(t testing.TB) *fixture {
	t.Helper()
	return open(t, testenv.SharedKafka(t))
}

// open opens a log in a topic of the test's own.
func open(t testing.TB, brokers string) *fixture {
	t.Helper()
	f := &fixture{TB: t, brokers: brokers, topic: testenv.StreamName(t)}
	f.log = f.another()
	var err error
	f.client, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...))
	f.must(err)
	t.Cleanup(f.client.Close)
	f.admin = kadm.NewClient(f.client)
	return f
}

// another opens the log as another process would.
func (f *fixture) another() *kafkalog.Log {
	f.Helper()
	log, err := kafkalog.Open(f.Context(), "kafka://"+f.brokers+"/"+f.topic)
	f.must(err)
	f.Cleanup(log.Close)
	return log
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// wipe deletes the topic.
func (f *fixture) wipe() {
	f.Helper()
	_, err := f.admin.DeleteTopic(f.Context(), f.topic)
	f.must(err)
	for !errors.Is(err, kerr.UnknownTopicOrPartition) { // until the brokers know
		topics, listErr := f.admin.ListTopics(f.Context(), f.topic)
		f.must(listErr)
		err = topics[f.topic].Err
	}
}

func entry(offset int64) unilog.Entry {
	return unilog.Entry{Offset: offset, Record: unilog.Record{Action: "create", Object: "ride", Data: []byte(`{"id": 1, "distance": 1.50}`)}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		f := setup(t)
		return logtest.Harness{Log: f.log, Wipe: func(*testing.T) { f.wipe() }}
	})
}
