package kafkalog_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

// protocolRecord is a record of Kafka's as docs/protocol_vectors.json has it.
type protocolRecord struct {
	Key     *string  `json:"key,omitempty"`
	Value   *string  `json:"value"`
	Headers []string `json:"headers"`
}

// TestKafkaProtocolVectors compares what comes into the topic with what the document says
// to programs in other languages.
func TestKafkaProtocolVectors(t *testing.T) {
	t.Parallel()
	f := setup(t)
	text, err := os.ReadFile("../docs/protocol_vectors.json")
	f.must(err)
	var vectors struct {
		Records []struct {
			Staged struct {
				StagedAt                     time.Time `json:"staged_at"`
				Object, Action, Key, Headers string
				ContentType                  string `json:"content_type"`
			}
			Kafka protocolRecord
		}
		Markers []protocolRecord `json:"kafka_markers"`
	}
	f.must(json.Unmarshal(text, &vectors))
	want := vectors.Markers
	var entries []unilog.Entry
	for i, r := range vectors.Records {
		headers, err := unilog.DecodeHeaders([]byte(r.Staged.Headers))
		f.must(err)
		record := unilog.Record{Action: r.Staged.Action, Object: r.Staged.Object, Key: r.Staged.Key, Headers: headers}
		record.SetPayload([]byte(*r.Kafka.Value), r.Staged.ContentType)
		entries = append(entries, unilog.Entry{Record: record, Offset: int64(i + 1), StagedAt: r.Staged.StagedAt})
		want = append(want, r.Kafka)
	}
	term := unilog.Term{LogID: "LOG_ID", Epoch: 7, Partitions: 1}
	_, err = f.log.Claim(t.Context(), term)
	f.must(err)
	_, err = f.log.Append(t.Context(), term, entries)
	f.must(err)

	client, err := kgo.NewClient(kgo.SeedBrokers(f.brokers), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(f.topic))
	f.must(err)
	defer client.Close()
	var got []protocolRecord
	for ctx := await.Context(t, "the records"); len(got) < len(want); {
		fetches := client.PollFetches(ctx)
		f.must(fetches.Err0())
		for _, r := range fetches.Records() {
			got = append(got, protocolRecordOf(r))
		}
	}
	has, err := json.Marshal(got)
	f.must(err)
	if says, err := json.Marshal(want); err != nil || string(has) != string(says) {
		t.Errorf("the topic has\n%s\nand the document\n%s", has, says)
	}
}

func protocolRecordOf(r *kgo.Record) (p protocolRecord) {
	text := func(b []byte) *string {
		if b == nil {
			return nil
		}
		s := string(b)
		return &s
	}
	p.Key, p.Value = text(r.Key), text(r.Value)
	for _, h := range r.Headers {
		p.Headers = append(p.Headers, h.Key, string(h.Value))
	}
	return p
}
