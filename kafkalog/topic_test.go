package kafkalog_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

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
		{"retention.ms", "1000", "-1"},
		{"retention.bytes", "1000", "-1"},
		{"cleanup.policy", "compact", "delete"},
		{"max.message.bytes", "1048588", "4259840"},
		{"segment.bytes", "1048576", "4259840"},
	} {
		for _, value := range []string{c.bad, c.good} {
			f.set(c.name, value)
			_, err := f.log.Claim(t.Context(), term(int64(i+1)))
			var setting *unilog.LogSettingError
			switch isLimit := strings.HasSuffix(c.name, ".bytes") && c.name != "retention.bytes"; {
			case value == c.good:
				f.must(err)
			case err == nil || !strings.Contains(err.Error(), c.name+" is "+value+": set it to "+c.good):
				t.Errorf("%s = %s: %v", c.name, value, err)
			case isLimit == errors.As(err, &setting):
				t.Errorf("%s = %s: %v is for a person to decide: %v", c.name, value, err, !isLimit)
			}
			settings, err := f.log.Settings(t.Context())
			f.must(err)
			if len(settings) != 6 {
				t.Errorf("these settings are known: %+v", settings)
			}
			for _, s := range settings {
				if s.OK() != (s.Name != c.name || value == c.good) {
					t.Errorf("%s = %s: %+v is all right: %v", c.name, value, s, s.OK())
				}
			}
		}
	}
}

// TestKafkaLimitIsLowered lowers the largest batch that the topic takes, under a leader.
func TestKafkaLimitIsLowered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.log.Claim(t.Context(), term(1))
	f.must(err)
	large := entry(1)
	noise := make([]byte, unilog.MaxStoredBytes/2) // which cannot be compressed below the limit
	for i := range noise {
		noise[i] = byte(' ' + rand.IntN(95))
	}
	large.Key = string(noise)
	for _, c := range []struct{ name, low, enough string }{{"max.message.bytes", "100000", "4259840"}, {"segment.bytes", "1048576", "1073741824"}} {
		f.set(c.name, c.low)
		_, err = f.log.Append(t.Context(), term(1), []unilog.Entry{large})
		if err == nil || !strings.Contains(err.Error(), c.name+" is "+c.low+": set it to 4259840 or more") {
			t.Errorf("%s = %s: %v", c.name, c.low, err)
		}
		f.set(c.name, c.enough)
		head, err := f.log.Append(t.Context(), term(1), []unilog.Entry{large})
		if err != nil || head != large.Offset {
			t.Fatalf("%s = %s: head %d, %v", c.name, c.enough, head, err)
		}
		large.Offset++
	}
}

// TestKafkaDeletedTopicIsRebuilt deletes the topic under a streamer and its consumer.
func TestKafkaDeletedTopicIsRebuilt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	db := testenv.Database(t, "kafkalog", func(ctx context.Context, pool *pgxpool.Pool) error {
		if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `CREATE TABLE applied ("offset" bigint PRIMARY KEY)`)
		return err
	})
	quiet := slog.New(slog.DiscardHandler)
	streamer, err := streamer.New(streamer.Config{DB: db, Log: f.log, Logger: quiet})
	f.must(err)
	consumer, err := consumer.New(consumer.Config{
		Name: "consumer", DB: db, Log: f.another(), Logger: quiet,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			_, err := tx.Exec(ctx, `INSERT INTO applied VALUES ($1)`, e.Offset)
			return err
		}),
	})
	f.must(err)
	commit := func(n int) {
		f.must(pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			return unilog.Stage(t.Context(), tx, newRecords(n)...)
		}))
	}
	applied := func() (n int) { // the primary key sees that none is twice
		f.must(db.QueryRow(t.Context(), `SELECT count(*) FROM applied`).Scan(&n))
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return streamer.Run(ctx) })
	group.Go(func() error { return consumer.Run(ctx) })
	total := 0
	for range 3 {
		commit(100)
		total += 100
		await.Equal(t, "records applied", total, applied)
		_, err := f.admin.DeleteTopic(t.Context(), f.topic)
		f.must(err)
		commit(100)
		total += 100
	}
	await.Equal(t, "the head", int64(total), func() int64 {
		h, err := f.log.Head(t.Context(), 0)
		f.must(err)
		return h.Offset
	})
	await.Equal(t, "records applied", total, applied)
	f.wantCommitted(total)
	cancel()
	f.must(group.Wait())
}

func newRecords(n int) []unilog.Record {
	records := make([]unilog.Record, n)
	for i := range records {
		records[i] = entry(1).Record
	}
	return records
}
