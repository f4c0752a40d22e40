package kafkalog_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
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
	f.client, err = kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...),
		kgo.MetadataMinAge(10*time.Millisecond)) // for which kadm remembers
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
	for _, broker := range f.client.DiscoveredBrokers() { // until each knows that lives
		await.True(f, "the broker to know that the topic is deleted", func() bool {
			req := kmsg.NewPtrMetadataRequest()
			topic := kmsg.NewMetadataRequestTopic()
			topic.Topic = &f.topic
			req.Topics = append(req.Topics, topic)
			resp, err := req.RequestWith(f.Context(), broker)
			return err != nil || resp.Topics[0].ErrorCode == kerr.UnknownTopicOrPartition.Code
		})
	}
}

func entry(offset int64) unilog.Entry {
	return unilog.Entry{Offset: offset, Record: unilog.Record{Action: "create", Object: "ride", Data: []byte(`{"id": 1, "distance": 1.50}`)}}
}

func TestKafkaConformance(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		f := setup(t)
		return logtest.Harness{Log: f.log, Wipe: func(*testing.T) { f.wipe() }}
	})
}

// committed returns the offsets that any client sees which reads what is committed.
func (f *fixture) committed(partition int32) (offsets []string) {
	f.Helper()
	ends, err := f.admin.ListCommittedOffsets(f.Context(), f.topic)
	f.must(err)
	end, _ := ends.Lookup(f.topic, partition)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(f.brokers, ",")...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: {partition: kgo.NewOffset().AtStart()}}))
	f.must(err)
	defer client.Close()
	ctx := await.Context(f, "what is committed")
	for at := int64(0); at < end.Offset; {
		fetches := client.PollFetches(ctx)
		f.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			at = r.Offset + 1
			if len(r.Value) > 0 && !r.Attrs.IsControl() {
				offsets = append(offsets, string(r.Headers[0].Value))
			}
		})
	}
	return offsets
}

// wantCommitted sees that any client sees the offsets up to one, each once and
// in order.
func (f *fixture) wantCommitted(last int) {
	f.Helper()
	got := f.committed(0)
	for i, offset := range got {
		if offset != strconv.Itoa(i+1) {
			f.Fatalf("entry number %d has the offset %s", i+1, offset)
		}
	}
	if len(got) != last {
		f.Fatalf("%d entries, want %d", len(got), last)
	}
}

func entries(first, last int64) (all []unilog.Entry) {
	for offset := first; offset <= last; offset++ {
		all = append(all, entry(offset))
	}
	return all
}

func term(epoch int64) unilog.Term { return unilog.Term{LogID: "a", Epoch: epoch, Partitions: 1} }

func BenchmarkAppendAndRead(b *testing.B) {
	f := setup(b)
	const batch = 2500
	next := int64(1)
	began := time.Now()
	for b.Loop() {
		_, err := f.log.Append(b.Context(), term(1), entries(next, next+batch-1))
		f.must(err)
		next += batch
	}
	b.ReportMetric(float64(next-1)/time.Since(began).Seconds(), "appended/s")
	began = time.Now()
	var at unilog.Cursor
	for at.Offset < next-1 {
		read, err := f.log.Read(b.Context(), 0, at, 5000, 0)
		f.must(err)
		at = unilog.Cursor{Offset: read[len(read)-1].Offset, Position: read[len(read)-1].Position}
	}
	b.ReportMetric(float64(next-1)/time.Since(began).Seconds(), "read/s")
}
