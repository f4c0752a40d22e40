package barrier_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/barrier"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const schema = unilog.Schema("tenant")

// TestInsertedBarriersComeBack puts barriers at the ends of three partitions, and reads
// them as a consumer does that fills a gap.
func TestInsertedBarriersComeBack(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "tenant", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.In(schema).Up(ctx, pool, migration.Log)
	})
	want := barrier.Barrier{Partitions: 3, Offsets: []int64{5, 1, 8}}
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), schema.SQL(`
			INSERT INTO unilog.partitions (partition, next_offset) VALUES (0, 6), (1, 2), (2, 9)
			ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset`))
		if err != nil {
			return err
		}
		return want.Insert(t.Context(), tx, schema)
	})
	if err != nil {
		t.Fatal(err)
	}
	for partition, offset := range want.Offsets {
		entries, err := archive.Read(t.Context(), db, schema, partition, offset-1, offset+5, 10)
		if err != nil || len(entries) != 1 || entries[0].Offset != offset || entries[0].Partition != partition || entries[0].StagedAt.IsZero() {
			t.Fatalf("of partition %d the archive has %+v, %v", partition, entries, err)
		}
		if got, ok := barrier.Of(&entries[0]); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("of partition %d the barrier is %+v (%v), want %+v", partition, got, ok, want)
		}
	}
}

func entry(object, action, data string) unilog.Entry {
	return unilog.Entry{Record: unilog.Record{Object: object, Action: action, Data: []byte(data)}}
}

func TestEntriesUpToABarrier(t *testing.T) {
	t.Parallel()
	record, mark := entry("ride", "create", `1`), entry(unilog.ReservedObject, "repartition", `{"partitions":2,"offsets":[3,1]}`)
	later := entry(unilog.ReservedObject, "from a later version", `{}`)
	for name, c := range map[string]struct {
		entries []unilog.Entry
		before  int
		is      bool
	}{
		"records alone":               {[]unilog.Entry{record, record}, 2, false},
		"a barrier after records":     {[]unilog.Entry{record, record, mark, record}, 2, false},
		"a barrier first":             {[]unilog.Entry{mark, record}, 0, true},
		"two barriers":                {[]unilog.Entry{mark, mark}, 0, true},
		"an entry of a later version": {[]unilog.Entry{later, record}, 1, false},
		"records before such an one":  {[]unilog.Entry{record, later}, 1, false},
	} {
		before, b := barrier.UpTo(c.entries)
		if len(before) != c.before || (b != nil) != c.is || b != nil && (b.Partitions != 2 || b.Offsets[0] != 3) {
			t.Errorf("%s: %d entries before %+v, want %d", name, len(before), b, c.before)
		}
	}
	for name, e := range map[string]unilog.Entry{
		"a record of that action": entry("ride", "repartition", `{}`),
		"another version's":       later,
		"damaged":                 entry(unilog.ReservedObject, "repartition", `no JSON`),
	} {
		if b, ok := barrier.Of(&e); ok {
			t.Errorf("%s is taken for the barrier %+v", name, b)
		}
	}
}

func TestBarrierIsAwaited(t *testing.T) {
	t.Parallel()
	b := &barrier.Barrier{Partitions: 2}
	quiet := slog.New(slog.DiscardHandler)
	countdown := func(n int) func(context.Context) (int, error) {
		return func(context.Context) (int, error) { n--; return max(n, 0), nil }
	}
	if passed, err := b.Await(t.Context(), quiet, await.Patience, countdown(3)); !passed || err != nil {
		t.Errorf("when no partition is behind any more: %v, %v", passed, err)
	}
	if passed, err := b.Await(t.Context(), quiet, 0, countdown(2)); passed || err != nil {
		t.Errorf("without patience: %v, %v", passed, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if passed, err := b.Await(ended, quiet, time.Hour, func(context.Context) (int, error) { return 1, nil }); passed || err != nil {
		t.Errorf("when its context has ended: %v, %v", passed, err)
	}
	failure := errors.New("no answer")
	if passed, err := b.Await(t.Context(), quiet, time.Hour, func(context.Context) (int, error) { return 0, failure }); passed || !errors.Is(err, failure) {
		t.Errorf("when nobody knows: %v, %v", passed, err)
	}
}
