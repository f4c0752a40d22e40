package redislog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/redislog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

type fixture struct {
	*testing.T
	log    *redislog.Log
	stream string
	redis  rueidis.Client
}

func setup(t *testing.T) *fixture {
	t.Helper()
	return open(t, testenv.SharedRedis(t))
}

func open(t *testing.T, url string) *fixture {
	t.Helper()
	f := &fixture{T: t, stream: testenv.StreamName(t)}
	url = testenv.PatientRedis(url)
	var err error
	if f.log, err = redislog.Open(t.Context(), url, f.stream); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.log.Close)
	option, err := rueidis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache = true
	if f.redis, err = rueidis.NewClient(option); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.redis.Close)
	return f
}

func (f *fixture) command(args ...string) rueidis.RedisResult {
	f.Helper()
	result := f.redis.Do(context.Background(), f.redis.B().Arbitrary(args...).Build())
	if err := result.Error(); err != nil {
		f.Fatal(err)
	}
	return result
}

func (f *fixture) append(entries ...unilog.Entry) error {
	_, err := f.log.Append(f.Context(), unilog.Term{LogID: "a", Epoch: 1}, entries)
	return err
}

func entry(offset int64) unilog.Entry {
	return unilog.Entry{Offset: offset, Record: unilog.Record{Action: "create", Object: "ride", Data: []byte(`{"id": 1, "distance": 1.50}`)}}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		f := setup(t)
		return logtest.Harness{
			Log:  f.log,
			Wipe: func(*testing.T) { f.command("DEL", f.stream, "{"+f.stream+"}:leader") },
		}
	})
}

func TestAnyClientCanReadTheStream(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	got, err := f.command("XRANGE", f.stream, "-", "+").AsXRange()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].ID != "1-0" || got[0].FieldValues["data"] != `{"id": 1, "distance": 1.50}` {
		t.Errorf("the stream holds %v", got)
	}
	if _, ok := got[0].FieldValues["key"]; ok {
		t.Error("an empty key takes a field")
	}
}

func TestOffsetsBeyondDoublesThatPrintShort(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const far = 1<<53 - 10
	if err := f.log.Reset(t.Context(), unilog.Term{LogID: "a", Epoch: 1}, far); err != nil {
		t.Fatal(err)
	}
	if err := f.append(entry(far+1), entry(far+2)); err != nil {
		t.Fatal(err)
	}
	if head, err := f.log.Head(t.Context(), 0); err != nil || head.Offset != far+2 {
		t.Errorf("head %+v, %v; want %d", head, err, int64(far+2))
	}
}

func TestScriptsSurviveAFlushOfTheScriptCache(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.Redis(t).URL())
	for offset := range int64(3) {
		f.command("SCRIPT", "FLUSH")
		if err := f.append(entry(offset + 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOutOfMemoryTakesAllOrNothing(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.Redis(t).URL())
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	f.command("CONFIG", "SET", "maxmemory", "1")
	for _, epoch := range []int64{1, 2} { // which Append itself announces, if it is new
		_, err := f.log.Append(t.Context(), unilog.Term{LogID: "a", Epoch: epoch}, []unilog.Entry{entry(2), entry(3)})
		if !errors.Is(err, unilog.ErrLogFull) {
			t.Fatalf("Redis is full, and says %v", err)
		}
	}
	if head, err := f.log.Head(t.Context(), 0); err != nil || head.Offset != 1 || head.Epoch != 1 {
		t.Fatalf("head %+v, %v; want it at 1", head, err)
	}
	f.command("CONFIG", "SET", "maxmemory", "0")
	if err := f.append(entry(2), entry(3)); err != nil {
		t.Fatal(err)
	}
}

// TestOutOfMemoryLetsRoomBeMade does what takes no memory while there is none.
func TestOutOfMemoryLetsRoomBeMade(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.Redis(t).URL())
	for offset := range int64(1000) {
		if err := f.append(entry(offset + 1)); err != nil {
			t.Fatal(err)
		}
	}
	f.command("CONFIG", "SET", "maxmemory", "1")
	term := unilog.Term{LogID: "a", Epoch: 2, Partitions: 1}
	if head, err := f.log.Claim(t.Context(), term); err != nil || head != 1000 {
		t.Errorf("claim: head %d, %v", head, err)
	}
	other := unilog.Term{LogID: "a", Epoch: 2, Partition: 1, Partitions: 2} // of which Redis has nothing yet
	if head, err := f.log.Claim(t.Context(), other); err != nil || head != 0 {
		t.Errorf("claim of a new partition: head %d, %v", head, err)
	}
	if err := f.log.Trim(t.Context(), 0, 900); err != nil {
		t.Error(err)
	}
	read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 2000, 0)
	if err != nil || len(read) == 0 || len(read) > 300 {
		t.Errorf("after the trim it reads %d entries and says %v", len(read), err)
	}
	term.Epoch = 3
	if err := f.log.Reset(t.Context(), term, 5000); err != nil {
		t.Error(err)
	}
	if head, err := f.log.Head(t.Context(), 0); err != nil || head.Offset != 5000 || head.Epoch != 3 {
		t.Errorf("after the reset the head is %+v, %v", head, err)
	}
}

func TestClaimRefusesEviction(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--user", "app", "on", "nopass", "~*", "&*", "+@all", "-config")
	f := open(t, strings.Replace(server.URL(), "unix://", "unix://app:any@", 1))
	admin := open(t, server.URL())
	set := func(maxmemory, policy string) {
		admin.command("CONFIG", "SET", "maxmemory", maxmemory)
		admin.command("CONFIG", "SET", "maxmemory-policy", policy)
	}
	claim := func(epoch int64, refused bool) {
		t.Helper()
		_, err := f.log.Claim(t.Context(), unilog.Term{LogID: "a", Epoch: epoch})
		var setting *unilog.LogSettingError
		if errors.As(err, &setting) != refused || !refused && err != nil {
			t.Errorf("the claim of epoch %d says %v, want it refused: %v", epoch, err, refused)
		}
	}
	for _, policy := range []string{"allkeys-lru", "allkeys-lfu", "allkeys-random"} {
		set("100mb", policy)
		claim(1, true)
	}
	for i, policy := range []string{"volatile-lru", "volatile-ttl", "noeviction"} {
		set("100mb", policy)
		claim(int64(i+1), false)
	}
	set("0", "allkeys-lru") // nothing is evicted without a limit
	claim(4, false)
	set("100mb", "allkeys-lru")
	claim(4, false) // the next term will find it
	claim(5, true)
	admin.command("ACL", "SETUSER", "app", "-info")
	claim(5, false) // nobody can know
}

func TestKeyOfAnotherType(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.command("SET", f.stream, "a stranger's")
	if err := f.append(entry(1)); err == nil || !strings.Contains(err.Error(), f.stream) {
		t.Errorf("append to a string: %v", err)
	}
	if _, err := f.log.Head(t.Context(), 0); err == nil {
		t.Error("a string has a head")
	}
}

func TestBatchesThatDoNotFollow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(); err == nil {
		t.Error("an empty batch was appended")
	}
	if err := f.append(entry(1), entry(3)); err == nil {
		t.Error("a batch with a hole was appended")
	}
}

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
	term := unilog.Term{LogID: "a", Epoch: 1}
	if _, err := log.Claim(b.Context(), term); err != nil {
		b.Fatal(err)
	}
	if _, err := log.Append(b.Context(), term, entries); err != nil {
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
