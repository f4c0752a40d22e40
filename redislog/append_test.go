package redislog_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// BenchmarkAppend tells what Redis's processor and memory a record takes, and, to
// compare, one that a plain client sends.
func BenchmarkAppend(b *testing.B) {
	const records = 2500
	batch := func(first int64) []unilog.Entry {
		entries := make([]unilog.Entry, records)
		for i := range entries {
			n := first + int64(i)
			entries[i] = unilog.Entry{Offset: n, StagedAt: time.UnixMicro(1_700_000_000_000_000 + n*731), Record: unilog.Record{
				Action: "create", Object: "ride", Key: strconv.FormatInt(100_000+n, 10),
				Data: fmt.Appendf(nil, `{"id": %d, "distance": %d.%02d, "user_id": %d, "ok": true}`, 100_000+n, n%500, n%100, 1000+n%977),
			}}
		}
		return entries
	}
	b.Run("this", func(b *testing.B) {
		measureRedis(b, records, func(log *redislog.Log, first int64) error {
			_, err := log.Append(b.Context(), unilog.Term{LogID: "a", Epoch: 1}, batch(first))
			return err
		})
	})
	b.Run("plain", func(b *testing.B) {
		measureRedis(b, records, func(log *redislog.Log, first int64) error {
			client, commands := log.Client(), make(rueidis.Commands, 0, records)
			for _, e := range batch(first) {
				commands = append(commands, client.B().Xadd().Key("s").Id("*").FieldValue().
					FieldValue("data", string(e.Data)).FieldValue("action", e.Action).FieldValue("object", e.Object).Build())
			}
			for _, answer := range client.DoMulti(b.Context(), commands...) {
				if err := answer.Error(); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// measureRedis calls send, which adds so many records to the stream s, to a durable
// Redis of its own.
func measureRedis(b *testing.B, records int64, send func(log *redislog.Log, first int64) error) {
	log, err := redislog.Open(b.Context(), testenv.Redis(b).URL(), "s")
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	client := log.Client()
	cpu := func() (seconds float64) {
		info, err := client.Do(b.Context(), client.B().Info().Section("cpu").Build()).ToString()
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range []string{"used_cpu_user:", "used_cpu_sys:"} {
			_, rest, _ := strings.Cut(info, name)
			number, _, _ := strings.Cut(rest, "\r\n")
			n, err := strconv.ParseFloat(number, 64)
			if err != nil {
				b.Fatal(err)
			}
			seconds += n
		}
		return seconds
	}
	before, sent := cpu(), int64(0)
	for b.Loop() {
		if err := send(log, sent+1); err != nil {
			b.Fatal(err)
		}
		sent += records
	}
	b.ReportMetric((cpu()-before)*1e6/float64(sent), "redis-µs/record")
	size, err := client.Do(b.Context(), client.B().MemoryUsage().Key("s").Samples(0).Build()).AsInt64()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(size)/float64(sent), "redis-bytes/record")
}
