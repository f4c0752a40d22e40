package logtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
)

func testRoundTrip(t *testing.T, h *harness) {
	want := entries(1, 50)
	want[3].Key = "k-3"
	want[4].Headers = map[string]string{"traceparent": "00-1-2-03", "": "\n\"ü"}
	for i, fields := range []struct {
		key     string
		headers map[string]string
	}{{}, {key: "k"}, {headers: map[string]string{"h": ""}}, {"k", map[string]string{"h": "v"}}} {
		body := &want[10+2*i] // between two of JSON
		body.Key, body.Headers, body.Data = fields.key, fields.headers, nil
		body.SetPayload([]byte{0, 0x80, byte(i), '"'}, "application/x-protobuf")
	}
	for i := range 3 { // which follow each other, the last one as JSON that is not kept as such
		want[20+i].Data = nil
		want[20+i].SetPayload([]byte(`{"id":1}`), []string{"a/b", "a/b", "application/json; charset=utf-8"}[i])
	}
	if _, err := h.Log.Append(t.Context(), term(1), want); err != nil {
		t.Fatal(err)
	}
	got := h.read(0, 100)
	h.wantOffsets(got, 1, 50)
	for i := range got {
		got[i].Position = "" // the log's own
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("read %+v, appended %+v", got[i], want[i])
		}
	}
	h.wantHead(50, 1)
}

func testContents(t *testing.T, h *harness) {
	const most = unilog.MaxStoredBytes - 500
	var records []unilog.Record
	for _, data := range []string{
		`1`, `"` + strings.Repeat("x", most) + `"`, `{"n": 0.000000000000000000000000000001, "ü": "🚀\n\u0001"}`,
		`[[[[]]]]`, `null`, `"-0"`, `123456789012345678901234567890.5`,
	} {
		records = append(records, unilog.Record{Data: json.RawMessage(data)})
	}
	for _, text := range []string{"<", "\u2028", `\"`} { // which encoders write longer than they are
		records = append(records, unilog.Record{Data: json.RawMessage(`1`), Headers: map[string]string{"h": strings.Repeat(text, most/len(text))}})
	}
	records = append(records, unilog.Record{Data: json.RawMessage(`1`), Key: strings.Repeat("k", most)})
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, body := range [][]byte{{}, {0}, {0x80}, every, bytes.Repeat(every, unilog.MaxRecordBytes/256), bytes.Repeat([]byte{0xff}, most)} {
		records = append(records, unilog.Record{Body: body, ContentType: strings.Repeat("~", unilog.MaxContentTypeBytes-1) + " "})
	}
	for i, r := range records {
		e := entries(int64(i+1), int64(i+1))
		e[0].Data, e[0].Body, e[0].ContentType, e[0].Headers, e[0].Key = r.Data, r.Body, r.ContentType, r.Headers, r.Key
		if _, err := h.Log.Append(t.Context(), term(1), e); err != nil {
			t.Fatalf("%.40q: %v", r, err)
		}
		got := h.read(int64(i), 1)
		if len(got) != 1 || !reflect.DeepEqual(got[0].Record, e[0].Record) {
			t.Fatalf("%.40q came back as %.40q", r, got)
		}
	}
}

func testDiverged(t *testing.T, h *harness) {
	h.needsOwnEntries()
	h.append(1, 1, 10)
	for name, change := range map[string]func(e *unilog.Entry){
		"action":  func(e *unilog.Entry) { e.Action = "delete" },
		"object":  func(e *unilog.Entry) { e.Object = "pilot" },
		"data":    func(e *unilog.Entry) { e.Data = json.RawMessage(`{"id": 2}`) },
		"time":    func(e *unilog.Entry) { e.StagedAt = e.StagedAt.Add(time.Microsecond) },
		"a key":   func(e *unilog.Entry) { e.Key = "k" },
		"headers": func(e *unilog.Entry) { e.Headers = map[string]string{"h": "v"} },
		"payload": func(e *unilog.Entry) { e.Body, e.ContentType, e.Data = e.Data, "application/json", nil },
	} {
		other := entries(8, 12)
		change(&other[2]) // at 10, the last that both have
		var diverged *unilog.DivergedError
		if _, err := h.Log.Append(t.Context(), term(1), other); !errors.As(err, &diverged) || diverged.Offset != 10 {
			t.Errorf("with another %s: %v, want it refused at offset 10", name, err)
		}
	}
	h.wantRefused(1, 8, 12, unilog.ErrAlreadyAppended, 10)
}

// testBodySentAgain knows a body by its bytes and by its type.
func testBodySentAgain(t *testing.T, h *harness) {
	body := func(first, last int64, body string, contentType string) []unilog.Entry {
		all := entries(first, last)
		for i := range all {
			all[i].Data = nil
			all[i].SetPayload([]byte(body), contentType)
		}
		return all
	}
	if _, err := h.Log.Append(t.Context(), term(1), body(1, 5, "\x00\x80", "a/b")); err != nil {
		t.Fatal(err)
	}
	if head, err := h.Log.Append(t.Context(), term(1), body(3, 7, "\x00\x80", "a/b")); !errors.Is(err, unilog.ErrAlreadyAppended) || head != 5 {
		t.Errorf("the same again: head %d, %v", head, err)
	}
	if h.Wipe == nil { // it is the archive: see needsOwnEntries
		return
	}
	for name, other := range map[string][]unilog.Entry{
		"another body": body(5, 7, "\x00\x81", "a/b"), "a longer one": body(5, 7, "\x00\x80\x00", "a/b"), "none": body(5, 7, "", "a/b"),
		"another type": body(5, 7, "\x00\x80", "a/c"), "JSON": entries(5, 7),
	} {
		var diverged *unilog.DivergedError
		if _, err := h.Log.Append(t.Context(), term(1), other); !errors.As(err, &diverged) || diverged.Offset != 5 {
			t.Errorf("%s: %v, want it refused at offset 5", name, err)
		}
	}
}
