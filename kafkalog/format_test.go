package kafkalog_test

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
)

// TestKafkaFormatOfANewerVersion: nothing is read from such a log, nor written to it,
// whatever its records are like by then.
func TestKafkaFormatOfANewerVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 2)...)
	f.must(f.client.ProduceSync(t.Context(), &kgo.Record{
		Topic: f.topic, Value: []byte("packed"), Headers: []kgo.RecordHeader{{Key: "format", Value: []byte("2")}},
	}).FirstErr())
	if read := f.read(unilog.Cursor{}, 2); len(read) != 2 {
		t.Errorf("before it, there is %v", read)
	}
	log := f.another()
	_, headErr := log.Head(t.Context(), 0)
	_, claimErr := log.Claim(t.Context(), term(2))
	_, readErr := log.Read(t.Context(), 0, unilog.Cursor{Offset: 2}, 10, 0)
	_, appendErr := f.log.Append(t.Context(), term(1), entries(3, 3))
	for call, err := range map[string]error{"Head": headErr, "Claim": claimErr, "Read": readErr, "Append": appendErr} {
		if newer := new(unilog.FormatError); !errors.As(err, &newer) || newer.Format != "2" {
			t.Errorf("%s says %v", call, err)
		}
	}
}
