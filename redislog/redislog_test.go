package redislog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

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
	if err := f.append(entry(2), entry(3)); err == nil {
		t.Fatal("Redis is full, and took entries")
	}
	f.command("CONFIG", "SET", "maxmemory", "0")
	if head, err := f.log.Head(t.Context(), 0); err != nil || head.Offset != 1 {
		t.Fatalf("head %+v, %v; want it at 1", head, err)
	}
	if err := f.append(entry(2), entry(3)); err != nil {
		t.Fatal(err)
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

func TestEntriesOfStrangers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if err := f.append(entry(1)); err != nil {
		t.Fatal(err)
	}
	f.command("XADD", f.stream, "1-5", "data", "1")
	got, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 10, 0)
	if err != nil || len(got) != 1 {
		t.Errorf("before the stranger's entry: %v, %v", got, err)
	}
	if _, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: 1}, 10, 0); err == nil || !strings.Contains(err.Error(), "1-5") {
		t.Errorf("the stranger's entry: %v", err)
	}
	// An id by the clock is beyond every offset: the streamer will refuse to run.
	f.command("XADD", f.stream, "*", "data", "1")
	if _, err := f.log.Append(t.Context(), unilog.Term{LogID: "a", Epoch: 1}, []unilog.Entry{entry(2)}); !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("append behind an id by the clock: %v", err)
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

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, stream string }{
		"no stream":     {"redis://127.0.0.1:1", ""},
		"a stray brace": {"redis://127.0.0.1:1", "a}{b"},
		"an empty tag":  {"redis://127.0.0.1:1", "a{}"},
		"not a URL":     {"http://127.0.0.1", "log"},
		"nobody there":  {"unix:///nowhere/redis.sock", "log"},
		"empty":         {"", "log"},
		"no such index": {testenv.SharedRedis(t) + "?db=99", "log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if l, err := redislog.Open(t.Context(), c.url, c.stream); err == nil {
				l.Close()
				t.Error("it opened")
			}
		})
	}
}
