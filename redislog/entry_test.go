package redislog

import (
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestRunsOfEntries appends entries whose fields change from one to the next, and
// sends another one in the place of each.
func TestRunsOfEntries(t *testing.T) {
	t.Parallel()
	log, err := Open(t.Context(), testenv.PatientRedis(testenv.SharedRedis(t)), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	headers := map[string]string{"h": "v"}
	var sent []unilog.Entry
	for i, r := range []unilog.Record{
		{Action: "create", Object: "ride"},
		{Action: "create", Object: "ride"},
		{Action: "delete", Object: "ride"},
		{Action: "delete", Object: "pilot"},
		{Action: "delete", Object: "pilot", Key: "k"},
		{Action: "delete", Object: "pilot", Key: strings.Repeat("k", 300)},
		{Action: "delete", Object: "pilot", Headers: headers},
		{Action: "delete", Object: "pilot", Key: "k", Headers: headers},
		{Action: "delete", Object: "pilot", Key: "both", Headers: headers},
		{Action: "both", Object: "key"},
		{Action: "both", Object: "key", ContentType: "a/b"},
		{Action: "both", Object: "key", ContentType: "a/b", Body: []byte("\x00\x80\xff")},
		{Action: "both", Object: "key", ContentType: "a/c", Body: []byte("\x00\x80\xff")},
		{Action: "both", Object: "key", ContentType: "a/c", Key: "k"},
		{Action: "both", Object: "key", ContentType: "a/c", Headers: headers},
		{Action: "both", Object: "key", ContentType: "a/c", Key: "k", Headers: headers},
		{Action: "both", Object: "key", ContentType: "key", Key: "k", Headers: headers},
		{Action: "both", Object: "key"},
	} {
		if r.ContentType == "" {
			r.Data = json.RawMessage(strconv.Itoa(i))
		}
		sent = append(sent, unilog.Entry{Record: r, Offset: int64(i + 1), StagedAt: time.UnixMicro(1<<53 + int64(i)).UTC()})
	}
	term := unilog.Term{LogID: "a", Epoch: 1}
	if _, err := log.Append(t.Context(), term, sent); err != nil {
		t.Fatal(err)
	}
	read, err := log.Read(t.Context(), 0, unilog.Cursor{}, 100, 0)
	if err != nil || len(read) != len(sent) {
		t.Fatalf("it reads %d of %d entries and says %v", len(read), len(sent), err)
	}
	for i := range sent {
		if !same(&read[i], &sent[i]) {
			t.Errorf("%+v came back as %+v", sent[i], read[i])
		}
		last := sent[:i+1]
		if _, err := log.Append(t.Context(), term, last); !errors.Is(err, unilog.ErrAlreadyAppended) {
			t.Errorf("the first %d again: %v", len(last), err)
		}
		for name, change := range map[string]func(*unilog.Entry){
			"action":  func(e *unilog.Entry) { e.Action = "other" },
			"time":    func(e *unilog.Entry) { e.StagedAt = e.StagedAt.Add(time.Microsecond) },
			"key":     func(e *unilog.Entry) { e.Key += "x" },
			"headers": func(e *unilog.Entry) { e.Headers = map[string]string{"other": ""} },
			"payload": func(e *unilog.Entry) { e.SetPayload(append([]byte("\x00"), e.Payload()...), e.ContentType) },
			"type":    func(e *unilog.Entry) { e.SetPayload(e.Payload(), e.ContentType+"x") },
		} {
			other := append([]unilog.Entry(nil), last...)
			change(&other[i])
			var diverged *unilog.DivergedError
			if _, err := log.Append(t.Context(), term, other); !errors.As(err, &diverged) || diverged.Offset != int64(i+1) {
				t.Errorf("another %s at offset %d: %v", name, i+1, err)
			}
		}
	}
}

func same(a, b *unilog.Entry) bool {
	return a.Action == b.Action && a.Object == b.Object && a.Key == b.Key && a.ContentType == b.ContentType && string(a.Payload()) == string(b.Payload()) &&
		maps.Equal(a.Headers, b.Headers) && a.StagedAt.Equal(b.StagedAt) && a.Offset == b.Offset
}

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
