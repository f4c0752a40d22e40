package endtoend_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redislog"
)

// vectors are those that docs/protocol.md gives to programs in other languages.
type vectors struct {
	PartitionOf []struct {
		Key                   string
		Partitions, Partition int
	} `json:"partition_of"`
	RedisKeys []struct {
		Stream, Log, Leader string
		Partition           int
	} `json:"redis_keys"`
	Records  []vector
	Barriers []struct {
		Partition int
		Redis     redisEntry
	}
}

type vector struct {
	Staged staged
	Redis  redisEntry
}

type staged struct {
	StagedAt            string `json:"staged_at"`
	Object, Action, Key string
	Data, Body, Headers *string
	ContentType         *string `json:"content_type"`
}

// body is the payload's bytes, which the document has as text.
func (s *staged) body() []byte {
	if s.Body == nil {
		return nil
	}
	return []byte(*s.Body)
}

type redisEntry struct {
	ID     string
	Fields []string
}

func readVectors(t *testing.T) (v vectors) {
	t.Helper()
	text, err := os.ReadFile("../docs/protocol_vectors.json")
	must(t, err)
	must(t, json.Unmarshal(text, &v))
	return v
}

// stage inserts the vectors' records as a program in another language does.
func (v *vectors) stage(w *world.World) {
	w.Helper()
	for _, r := range v.Records {
		w.Exec(`INSERT INTO unilog.staged_records (staged_at, object, action, key, data, headers, body, content_type)
			VALUES ($1::text::timestamptz, $2, $3, $4, $5::text::jsonb, $6::text::jsonb, $7, $8)`,
			r.Staged.StagedAt, r.Staged.Object, r.Staged.Action, r.Staged.Key, r.Staged.Data, r.Staged.Headers, r.Staged.body(), r.Staged.ContentType)
	}
}

// TestProtocolVectorsOfKeys compares the code with what the document says of keys.
func TestProtocolVectorsOfKeys(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, p := range v.PartitionOf {
		if got := unilog.PartitionOf(p.Key, p.Partitions); got != p.Partition {
			t.Errorf("key %q is in partition %d of %d, and the document says %d", p.Key, got, p.Partitions, p.Partition)
		}
	}
	unique := testenv.StreamName(t)
	w := world.SetupOnRedis(t)
	for _, k := range v.RedisKeys {
		name := func(key string) string { return strings.Replace(key, "orders", unique, 1) }
		log, err := redislog.Open(t.Context(), testenv.PatientRedis(testenv.SharedRedis(t)), name(k.Stream))
		must(t, err)
		entry := unilog.Entry{Partition: k.Partition, Offset: 1, Record: unilog.Record{Object: "o", Action: "a", Data: []byte(`1`)}}
		_, err = log.Append(t.Context(), unilog.Term{Partition: k.Partition, LogID: "a", Epoch: 1}, []unilog.Entry{entry})
		log.Close()
		must(t, err)
		for _, key := range []string{name(k.Log), name(k.Leader)} {
			if n, err := w.Command("EXISTS", key).AsInt64(); err != nil || n != 1 {
				t.Errorf("partition %d of %s has no key %s: %v", k.Partition, name(k.Stream), key, err)
			}
		}
	}
}

// TestProtocolVectorsInRedis compares what comes into Redis, byte for byte.
func TestProtocolVectorsInRedis(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	w := world.SetupOnRedis(t)
	v.stage(w)
	w.StreamAll()
	var want []redisEntry
	for _, r := range v.Records {
		want = append(want, r.Redis)
	}
	compare(t, "partition 0", rawEntries(w, w.Stream), want)

	w.Repartition(3, 1)
	w.StreamAll()
	for _, b := range v.Barriers {
		entries := rawEntries(w, strings.TrimSuffix(fmt.Sprint(w.Stream, ":", b.Partition), ":0"))
		last := entries[len(entries)-1]
		at := slices.Index(last.Fields, "staged_at")
		last.Fields = slices.Delete(last.Fields, at, at+2)
		compare(t, fmt.Sprint("the barrier of partition ", b.Partition), last, b.Redis)
	}
	leader, err := w.Command("HGETALL", "{"+w.Stream+"}:leader").AsStrMap()
	must(t, err)
	if leader["partitions"] != "3" || leader["log_id"] != world.Query[string](w, `SELECT log_id::text FROM unilog.log`) {
		t.Errorf("the hash has %v", leader)
	}
}

func rawEntries(w *world.World, stream string) (entries []redisEntry) {
	w.Helper()
	raw, err := w.Command("XRANGE", stream, "-", "+").ToArray()
	w.Must(err)
	for _, r := range raw {
		pair, err := r.ToArray()
		w.Must(err)
		id, err := pair[0].ToString()
		w.Must(err)
		fields, err := pair[1].AsStrSlice()
		w.Must(err)
		entries = append(entries, redisEntry{id, fields})
	}
	return entries
}

func compare(t *testing.T, what string, got, want any) {
	t.Helper()
	g, err := json.Marshal(got)
	must(t, err)
	if w, err := json.Marshal(want); err != nil || string(g) != string(w) {
		t.Errorf("%s has\n%s\nand the document\n%s", what, g, w)
	}
}
