package webhook

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
)

const logID = "0b7e7a9e-6a5c-4f43-8a0a-0b6a8a4f9f10"

// read reads a CloudEvent as the specification says, from either mode, and complains of
// what it forbids. Its attributes are as text.
func read(t *testing.T, h http.Header, body []byte) (attributes map[string]string, data []byte) {
	t.Helper()
	attributes = map[string]string{}
	if strings.HasPrefix(h.Get("Content-Type"), "application/cloudevents") {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		data = members["data"]
		for name, value := range members {
			var text string
			switch err := json.Unmarshal(value, &text); {
			case name == "data":
			case err != nil:
				t.Errorf("%s is %s", name, value)
			case name == "data_base64":
				data, _ = base64.StdEncoding.DecodeString(text)
			default:
				attributes[name] = text
			}
		}
	} else {
		data = body
		attributes["datacontenttype"] = h.Get("Content-Type")
		for name := range h {
			attribute, isOne := strings.CutPrefix(strings.ToLower(name), "ce-")
			if !isOne {
				continue
			}
			value := h.Get(name)
			if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
				t.Errorf("%s is not ASCII: %s", name, value)
			}
			text, err := url.PathUnescape(value)
			if err != nil || attribute == "datacontenttype" {
				t.Errorf("%s must not be, or not as %s", name, value)
			}
			attributes[attribute] = text
		}
	}
	for _, name := range []string{"id", "source", "specversion", "type"} {
		if attributes[name] == "" {
			t.Errorf("it has no %s", name)
		}
	}
	for name := range attributes {
		if !regexp.MustCompile(`^[a-z0-9]+$`).MatchString(name) {
			t.Errorf("no attribute may be called %q", name)
		}
	}
	if _, err := time.Parse(time.RFC3339, attributes["time"]); err != nil || attributes["specversion"] != "1.0" {
		t.Errorf("time %s (%v), version %s", attributes["time"], err, attributes["specversion"])
	}
	if u, err := url.Parse(attributes["source"]); err != nil || u.String() != attributes["source"] {
		t.Errorf("the source %s is no URI reference: %v", attributes["source"], err)
	}
	return attributes, data
}

const parent = "00-0af7651916cd43dd8448eb211c80319c-b9c7c989f97918e1-01"

func entry() *unilog.Entry {
	return &unilog.Entry{
		Partition: 3, Offset: 42, StagedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.FixedZone("", 3600)),
		Record: unilog.Record{
			Action: "create", Object: "order", Key: `Euro € 😀 "100%"`, Data: []byte(`{"id": 7, "name": "<€>"}`),
			Headers: map[string]string{"tenant": "Zürich", "User-Id": "ü 7", "id": "mine", "a b": "1", "traceparent": parent, "tracestate": "a=1, b=2"},
		},
	}
}

func TestCloudEvents(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"specversion": "1.0", "id": logID + "/3/42", "source": "urn:uuid:" + logID, "type": "order.create",
		"subject": `Euro € 😀 "100%"`, "partitionkey": `Euro € 😀 "100%"`, "time": "2026-01-02T02:04:05.678901Z",
		"datacontenttype": "application/json", "sequence": "0000000000000000042",
		"tenant": "Zürich", "traceparent": parent, "tracestate": "a=1, b=2",
	}
	for _, format := range []Format{Structured, Binary} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			e := entry()
			h, body := format.write("urn:uuid:"+logID, id(logID, e), e)
			got, data := read(t, h, body)
			if fmt.Sprint(got) != fmt.Sprint(want) || string(data) != string(e.Data) {
				t.Errorf("it is\n%v with %s, want\n%v", got, data, want)
			}
			wantHeaders(t, h, map[string]string{
				"Traceparent": parent, "Tracestate": "a=1, b=2", // of the request itself, too
				"Unilog-Header-User-Id": "%C3%BC%207", "Unilog-Header-Id": "mine", "Unilog-Header-A%20b": "1", "Unilog-Header-Tenant": "",
			})
			if format == Binary && h.Get("Ce-Subject") != "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22100%25%22" {
				t.Errorf("the subject is %s", h.Get("Ce-Subject"))
			}
			e.Key, e.Headers = "", nil
			h, body = format.write("/orders", id(logID, e), e)
			got, _ = read(t, h, body)
			if _, has := got["subject"]; has || got["source"] != "/orders" || len(got) != 7 {
				t.Errorf("without a key it is %v", got)
			}
		})
	}
}

func wantHeaders(t *testing.T, h http.Header, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := strings.Join(h[name], ", "); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// TestPayloadsOfAnyType are in a CloudEvent in JSON, as JSON where they are that.
func TestPayloadsOfAnyType(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ contentType, payload, member string }{
		{"application/protobuf", "\x00\xff\"", "data_base64"},
		{"application/json", `{"a": 1e400}`, "data"},
		{"application/vnd.order+json; charset=utf-8", `[1]`, "data"},
		{"application/json", `{"a": `, "data_base64"},
		{"application/json", "\"\xff\"", "data_base64"},
		{"application/json", strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000), "data_base64"}, // which not every parser takes
		{"text/plain", `{}`, "data_base64"},
	} {
		e := entry()
		e.Data, e.Body, e.ContentType = nil, []byte(test.payload), test.contentType
		h, body := Structured.write("/a", id(logID, e), e)
		got, data := read(t, h, body)
		if string(data) != test.payload || got["datacontenttype"] != test.contentType || !strings.Contains(string(body), `"`+test.member+`":`) {
			t.Errorf("%s is not in %s: %.200s", test.contentType, test.member, body)
		}
		for _, format := range []Format{Binary, Plain} {
			h, body := format.write("/a", id(logID, e), e)
			if h.Get("Content-Type") != test.contentType || string(body) != test.payload {
				t.Errorf("%s is posted as %s: %.200s", test.contentType, h.Get("Content-Type"), body)
			}
		}
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	e := entry()
	h, body := Plain.write("", id(logID, e), e)
	if string(body) != string(e.Data) {
		t.Errorf("the body is %s", body)
	}
	wantHeaders(t, h, map[string]string{
		"Content-Type": "application/json", "Unilog-Object": "order", "Unilog-Action": "create",
		"Unilog-Key": "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22100%25%22", "Unilog-Staged-At": "2026-01-02T02:04:05.678901Z",
		"Unilog-Header-Tenant": "Z%C3%BCrich", "Unilog-Header-Id": "mine", "Traceparent": parent, "Ce-Id": "",
	})
}
