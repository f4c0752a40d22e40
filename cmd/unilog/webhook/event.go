package webhook

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rocketrides/unilog"
)

// Format is how a record is written into a request.
type Format string

const (
	// Structured is a CloudEvent in JSON: all of it is in the body, and signed.
	Structured Format = "cloudevents-structured"
	// Binary is a CloudEvent whose attributes are headers, and the body the payload.
	Binary Format = "cloudevents"
	// Plain has the payload as its body, and the rest in headers of unilog's own.
	Plain Format = "plain"
)

func (f Format) valid() bool { return slices.Contains([]Format{Structured, Binary, Plain}, f) }

func formats() string { return fmt.Sprintf("%s, %s and %s", Structured, Binary, Plain) }

// payload returns what a record carries, and what that is.
func payload(r *unilog.Record) (body []byte, contentType string) {
	return r.Payload(), cmp.Or(r.ContentType, "application/json")
}

// write returns the headers and the body of the request for an entry.
func (f Format) write(source, id string, e *unilog.Entry) (http.Header, []byte) {
	body, contentType := payload(&e.Record)
	header := http.Header{}
	var attributes map[string]string
	switch f {
	case Plain:
		header.Set("Content-Type", contentType)
		for name, value := range map[string]string{
			"Unilog-Object": e.Object, "Unilog-Action": e.Action, "Unilog-Key": e.Key, "Unilog-Staged-At": stagedAt(e),
		} {
			header.Set(name, escape(value))
		}
	case Binary:
		attributes = eventOf(source, id, e)
		header.Set("Content-Type", contentType)
		for name, value := range attributes {
			header.Set("Ce-"+name, escape(value))
		}
	case Structured:
		attributes = eventOf(source, id, e)
		header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
		body = structured(attributes, body, contentType)
	}
	for name, value := range e.Headers {
		if isTrace(name) && isPrintable(value) {
			header.Set(name, value) // for what traces requests
			continue
		}
		if _, isAttribute := attributes[name]; !isAttribute || reserved[name] {
			header.Add("Unilog-Header-"+escapeName(name), escape(value))
		}
	}
	return header, body
}

// reserved are the attributes that no header of a record can be.
var reserved = map[string]bool{
	"specversion": true, "id": true, "source": true, "type": true, "subject": true, "time": true,
	"datacontenttype": true, "data": true, "partitionkey": true, "sequence": true,
}

// eventOf returns the attributes of a CloudEvent but datacontenttype. Headers of the
// record whose names can be those of attributes are extensions, and so is its place: the
// offset in its partition, with zeros before it, since it is compared as text.
func eventOf(source, id string, e *unilog.Entry) map[string]string {
	attributes := map[string]string{
		"specversion": "1.0", "id": id, "source": source, "type": e.Object + "." + e.Action,
		"time": stagedAt(e), "sequence": fmt.Sprintf("%019d", e.Offset),
	}
	if e.Key != "" {
		attributes["subject"], attributes["partitionkey"] = e.Key, e.Key
	}
	for name, value := range e.Headers {
		if isAttributeName(name) && !reserved[name] {
			attributes[name] = value
		}
	}
	return attributes
}

// structured writes a CloudEvent in JSON. A payload that cannot be a part of it is in
// base64.
func structured(attributes map[string]string, payload []byte, contentType string) []byte {
	attributes["datacontenttype"] = contentType
	head, _ := json.Marshal(attributes) // of strings alone
	event := make([]byte, 0, len(head)+len(payload)*4/3+32)
	event = append(event, head[:len(head)-1]...)
	if isJSON(contentType) && utf8.Valid(payload) && json.Valid(payload) {
		event = append(append(event, `,"data":`...), payload...)
	} else {
		event = base64.StdEncoding.AppendEncode(append(event, `,"data_base64":"`...), payload)
		event = append(event, '"')
	}
	return append(event, '}')
}

func isJSON(contentType string) bool {
	kind, _, err := mime.ParseMediaType(contentType)
	return err == nil && (strings.HasSuffix(kind, "/json") || strings.HasSuffix(kind, "+json"))
}

func stagedAt(e *unilog.Entry) string { return e.StagedAt.UTC().Format(time.RFC3339Nano) }

func isTrace(name string) bool { return name == "traceparent" || name == "tracestate" }

func isAttributeName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// isURIReference says whether a source is one, or empty.
func isURIReference(source string) bool {
	_, err := url.Parse(source)
	return err == nil && isPrintable(source) && !strings.ContainsAny(source, ` "<>\^{|}`+"`")
}

func isPrintable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// escape writes a header's value as the HTTP binding of CloudEvents does: what is not
// printable ASCII, the space, the double quote and the percent sign become the bytes of
// their UTF-8, as %xy.
func escape(text string) string {
	return escaped(text, func(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '%' })
}

// escapeName does the same for what cannot be in a header's name.
func escapeName(text string) string {
	return escaped(text, func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$&'*+-.^_`|~", c) >= 0
	})
}

func escaped(text string, kept func(byte) bool) string {
	if !slices.ContainsFunc([]byte(text), func(c byte) bool { return !kept(c) }) {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; kept(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
