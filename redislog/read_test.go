package redislog_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// TestReadIsBoundedInBytes reads entries of which the first page is all that is
// wanted, and such of which the second one must not be as large as it could.
func TestReadIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{32 << 10, 8 << 10} {
		f := setup(t)
		for offset := int64(1); offset <= 1000; offset += 100 {
			entries := make([]unilog.Entry, 100)
			for i := range entries {
				entries[i] = entry(offset + int64(i))
				entries[i].Key = strings.Repeat("k", size)
			}
			if err := f.append(entries...); err != nil {
				t.Fatal(err)
			}
		}
		read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 1000, 0)
		if err != nil {
			t.Fatal(err)
		}
		const limit = 4 << 20
		if n := len(read) * size; n < limit/2 || n > limit+size {
			t.Errorf("it read %d entries, %d bytes, want about %d bytes", len(read), n, limit)
		}
		for i := range read {
			if read[i].Offset != int64(i+1) {
				t.Fatalf("entry number %d has the offset %d", i+1, read[i].Offset)
			}
		}
	}
}

// TestReadWithRESP2 speaks the protocol of servers before Redis 6.
func TestReadWithRESP2(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.SharedRedis(t)+"?protocol=2")
	for want := range 2 {
		read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, time.Millisecond)
		if err != nil || len(read) != want {
			t.Errorf("it read %d entries and says %v, want %d", len(read), err, want)
		}
		if err := f.append(entry(int64(want + 1))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEntriesWithoutWhatARecordHas sees that none is taken for a record.
func TestEntriesWithoutWhatARecordHas(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"data", "action", "object"} {
		f := setup(t)
		args := []string{"XADD", f.stream, "1-0", "staged_at", "1"}
		for _, name := range []string{"data", "action", "object"} {
			if name != field {
				args = append(args, name, "1")
			}
		}
		f.command(args...)
		if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); err == nil || !strings.Contains(err.Error(), "it lacks data, action or object") {
			t.Errorf("without %s it reads %v and says %v", field, read, err)
		}
	}
}

// BenchmarkRead reads 4,000 entries, at once as far as pages allow.
func BenchmarkRead(b *testing.B) {
	log, err := redislog.Open(b.Context(), testenv.SharedRedis(b), testenv.StreamName(b))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	const records = 4000
	entries := make([]unilog.Entry, records)
	for i := range entries {
		entries[i] = entry(int64(i + 1))
	}
	if _, err := log.Append(b.Context(), unilog.Term{LogID: "a", Epoch: 1}, entries); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		read, err := log.Read(b.Context(), 0, unilog.Cursor{}, records, 0)
		if err != nil || len(read) != records {
			b.Fatal(len(read), err)
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}
