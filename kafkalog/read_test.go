package kafkalog_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

func (f *fixture) append(epoch int64, entries ...unilog.Entry) {
	f.Helper()
	_, err := f.log.Append(f.Context(), term(epoch), entries)
	f.must(err)
}

func (f *fixture) read(after unilog.Cursor, limit int) []unilog.Entry {
	f.Helper()
	read, err := f.log.Read(f.Context(), 0, after, limit, 0)
	f.must(err)
	return read
}

func TestKafkaReadIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const size = 32 << 10
	for first := int64(1); first <= 300; first += 30 {
		batch := entries(first, first+29)
		for i := range batch {
			batch[i].Key = strings.Repeat("k", size)
		}
		f.append(1, batch...)
	}
	read := f.read(unilog.Cursor{}, 1000)
	const limit = 4 << 20
	if n := len(read) * size; n < limit/2 || n > limit+size {
		t.Errorf("it read %d entries, %d bytes, want about %d bytes", len(read), n, limit)
	}
}

// TestKafkaPositionsOfAnotherTopic reads on at cursors of a topic that was made anew
// with fewer entries: the same offsets have other positions there.
func TestKafkaPositionsOfAnotherTopic(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 200)...)
	before := f.read(unilog.Cursor{}, 200)
	f.wipe()
	f.must(f.log.Reset(t.Context(), term(1), 49))
	f.append(1, entries(50, 220)...)
	for _, log := range []unilog.Log{f.log, f.another()} { // one that has read before, and one that has not
		for _, i := range []int{0, 48, 99, 170, 199} {
			at := unilog.Cursor{Offset: before[i].Offset, Position: before[i].Position}
			read, err := log.Read(t.Context(), 0, at, 1, 0)
			f.must(err)
			if want := max(50, at.Offset+1); len(read) != 1 || read[0].Offset != want {
				t.Errorf("after %d it reads %v, want %d", at.Offset, read, want)
			}
		}
	}
}

// TestKafkaReadAfterALossWhileReading has a reader in the middle of a topic that is
// made anew with its entries elsewhere.
func TestKafkaReadAfterALossWhileReading(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 100)...)
	last := f.read(unilog.Cursor{}, 100)[99]
	f.wipe()
	f.must(f.log.Reset(t.Context(), term(1), 90))
	f.append(1, entries(91, 300)...)
	read := f.read(unilog.Cursor{Offset: last.Offset, Position: last.Position}, 10)
	if len(read) != 10 || read[0].Offset != 101 {
		t.Errorf("it goes on with %v", read)
	}
}

func TestKafkaTrimKeepsTheHead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 10)...)
	for _, upTo := range []int64{3, 10, 1000} {
		f.must(f.log.Trim(t.Context(), 0, upTo))
		log := f.another()
		if head, err := log.Head(t.Context(), 0); err != nil || head.Offset != 10 || head.LogID != "a" {
			t.Errorf("after a trim to %d the head is %+v, %v", upTo, head, err)
		}
		if read := f.read(unilog.Cursor{}, 100); len(read) == 0 || read[0].Offset > min(10, upTo+1) || read[0].Offset < min(10, upTo) {
			t.Errorf("after a trim to %d it begins with %v", upTo, read)
		}
	}
}

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
	f.append(7, e)
	client, err := kgo.NewClient(kgo.SeedBrokers(f.brokers), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics(f.topic))
	f.must(err)
	defer client.Close()
	records := client.PollFetches(await.Context(t, "the entry")).Records()
	if len(records) != 1 || string(records[0].Key) != "k" || string(records[0].Value) != string(e.Data) {
		t.Fatalf("it reads %v", records)
	}
	var names []string
	for _, h := range records[0].Headers {
		names = append(names, h.Key)
	}
	if got := strings.Join(names, " "); got != "offset log_id epoch partitions action object staged_at headers" {
		t.Errorf("its headers are %s", got)
	}
}

// TestKafkaClaimAgain writes nothing, but for the number of partitions.
func TestKafkaClaimAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	end := func() int64 {
		ends, err := f.admin.ListEndOffsets(t.Context(), f.topic)
		f.must(err)
		at, _ := ends.Lookup(f.topic, 0)
		return at.Offset
	}
	more := term(1)
	for i, partitions := range []int{1, 1, 3, 3, 1} {
		before := end()
		more.Partitions = partitions
		if _, err := f.log.Claim(t.Context(), more); err != nil {
			t.Fatal(err)
		}
		if wrote := end() > before; wrote != (i%2 == 0) {
			t.Errorf("claim number %d, for %d partitions, wrote: %v", i+1, partitions, wrote)
		}
	}
	topics, err := f.admin.ListTopics(t.Context(), f.topic)
	f.must(err)
	if n := len(topics[f.topic].Partitions); n != 3 {
		t.Errorf("the topic has %d partitions", n)
	}
	// Another process with the same term.
	other := f.another()
	before := end()
	if _, err := other.Claim(t.Context(), more); err != nil || end() != before {
		t.Errorf("another claim: %v, and wrote: %v", err, end() != before)
	}
}

// set changes a setting of the topic and waits until the broker has it.
func (f *fixture) set(name, value string) {
	f.Helper()
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}
	changed, err := f.admin.AlterTopicConfigs(f.Context(), change, f.topic)
	f.must(err)
	_, err = changed.On(f.topic, func(r *kadm.AlterConfigsResponse) error { return r.Err })
	f.must(err)
	await.True(f, "the broker to have the setting "+name+"="+value, func() bool {
		configs, err := f.admin.DescribeTopicConfigs(f.Context(), f.topic)
		f.must(err)
		return slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == name && c.MaybeValue() == value })
	})
}

func TestKafkaClaimRefusesRetention(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i, c := range []struct{ name, bad, good string }{
		{"retention.ms", "1000", "-1"}, {"retention.bytes", "1000", "-1"}, {"cleanup.policy", "compact", "delete"}, {"max.message.bytes", "1000", "2000000"},
	} {
		for _, value := range []string{c.bad, c.good} {
			f.set(c.name, value)
			_, err := f.log.Claim(t.Context(), term(int64(i+1)))
			var setting *unilog.LogSettingError
			switch {
			case value == c.good:
				f.must(err)
			case err == nil || !strings.Contains(err.Error(), c.name):
				t.Errorf("%s = %s: %v", c.name, value, err)
			case c.name != "max.message.bytes" && !errors.As(err, &setting):
				t.Errorf("%s = %s: %v is no LogSettingError", c.name, value, err)
			}
		}
	}
}
