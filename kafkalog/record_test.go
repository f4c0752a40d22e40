package kafkalog_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

func TestKafkaEntriesOfStrangers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entry(1))
	f.must(f.client.ProduceSync(t.Context(), &kgo.Record{Topic: f.topic, Value: []byte("1")}).FirstErr())
	if read := f.read(unilog.Cursor{}, 10); len(read) != 1 {
		t.Errorf("before the stranger's: %v", read)
	}
	const says = "was not written by unilog"
	if _, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: 1}, 10, 0); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("it reads the stranger's: %v", err)
	}
	if _, err := f.log.Append(t.Context(), term(1), entries(2, 2)); err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("it appends to the stranger's: %v", err)
	}
}

// TestKafkaAnyClientCanRead is what the package's comment says of the headers.
func TestKafkaAnyClientCanRead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	e := entry(1)
	e.Key, e.Headers = "k", map[string]string{"h": "v"}
	body := entry(2)
	body.Data = nil
	body.SetPayload(nil, "a/b")
	f.append(7, e, body)
	client, err := kgo.NewClient(kgo.SeedBrokers(f.brokers), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(f.topic))
	f.must(err)
	defer client.Close()
	records := client.PollFetches(await.Context(t, "the entries")).Records()
	if len(records) != 2 || string(records[0].Key) != "k" || string(records[0].Value) != string(e.Data) {
		t.Fatalf("it reads %v", records)
	}
	for i, want := range []string{"headers", "content_type"} {
		var names []string
		for _, h := range records[i].Headers {
			names = append(names, h.Key)
		}
		if got := strings.Join(names, " "); got != "offset log_id epoch partitions action object staged_at "+want {
			t.Errorf("the headers are %s", got)
		}
	}
	if records[1].Value == nil {
		t.Error("an empty body is null in Kafka, which deletes")
	}
}
