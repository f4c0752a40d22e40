package redislog

import (
	"strconv"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
)

func thousandEntries() []unilog.Entry {
	entries := make([]unilog.Entry, 1000)
	for i := range entries {
		entries[i] = unilog.Entry{
			Offset:   int64(i + 1),
			StagedAt: time.UnixMicro(1_700_000_000_000_000),
			Record: unilog.Record{
				Action: "create", Object: "ride", Key: strconv.Itoa(i), Data: []byte(`{"id": 123456, "distance": 123.45}`),
			},
		}
	}
	return entries
}

func BenchmarkAppendArgs(b *testing.B) {
	entries := thousandEntries()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendArgs(unilog.Term{}, entries); err != nil {
			b.Fatal(err)
		}
	}
}
