package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes spans over OTLP/HTTP.
type collector struct {
	*testing.T
	*httptest.Server

	mu    sync.Mutex
	spans []collected
}

type collected struct {
	*tracepb.Span
	service string
}

func newCollector(t *testing.T) *collector {
	c := &collector{T: t}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// env has spans sent there, but not before a process ends.
func (c *collector) env() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key=secret",
		"OTEL_BSP_SCHEDULE_DELAY=3600000",
	}
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	request := new(collectorpb.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, request)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Api-Key") != "secret" {
		c.Errorf("the collector got %s %s %v, %v", r.Method, r.URL, r.Header, err)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range request.ResourceSpans {
		service := attributes(resource.Resource.Attributes, "service.name")
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, collected{span, service})
			}
		}
	}
}

// spans are those of a trace, the earliest first.
type spans []collected

func (c *collector) trace(id string) spans {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := slices.DeleteFunc(slices.Clone(c.spans), func(s collected) bool { return fmt.Sprintf("%x", s.TraceId) != id })
	slices.SortFunc(t, func(a, b collected) int { return cmp.Compare(a.StartTimeUnixNano, b.StartTimeUnixNano) })
	return t
}

// tree draws the spans below a parent.
func (t spans) tree(parent, indent string, draw func(name string, s collected) string) string {
	var drawn strings.Builder
	for _, s := range t {
		if fmt.Sprintf("%x", s.ParentSpanId) == parent {
			drawn.WriteString(draw(indent+s.Name, s) + "\n" + t.tree(fmt.Sprintf("%x", s.SpanId), indent+"  ", draw))
		}
	}
	return drawn.String()
}

// shape is the tree without what differs each time: siblings by their text.
func (t spans) shape(parent string) string {
	draw := func(name string, s collected) string {
		return name + " " + s.Kind.String()[len("SPAN_KIND_"):] + " " + s.about()
	}
	sorted := slices.SortedFunc(slices.Values(t), func(a, b collected) int { return cmp.Compare(draw(a.Name, a), draw(b.Name, b)) })
	return spans(sorted).tree(parent, "", draw)
}

// timeline is the tree with the time at which each span began, and what it took.
func (t spans) timeline(parent string) string {
	milliseconds := func(from, to uint64) float64 { return float64(int64(to-from)) / float64(time.Millisecond) }
	return fmt.Sprintf("%-15s%9s %9s\n", "", "at ms", "took ms") + t.tree(parent, "", func(name string, s collected) string {
		return fmt.Sprintf("%-15s%9.3f %9.3f  %s", name, milliseconds(t[0].StartTimeUnixNano, s.StartTimeUnixNano),
			milliseconds(s.StartTimeUnixNano, s.EndTimeUnixNano), s.about())
	})
}

// about tells spans of one name apart.
func (s collected) about() string {
	return strings.TrimSpace(s.service + " " +
		attributes(s.Attributes, "messaging.consumer.group.name", "messaging.unilog.offset", "messaging.unilog.refused"))
}

// attributes are the values of those that are there.
func attributes(all []*commonpb.KeyValue, names ...string) string {
	var values []string
	for _, a := range all {
		if !slices.Contains(names, a.Key) {
			continue
		}
		if n, ok := a.Value.Value.(*commonpb.AnyValue_IntValue); ok {
			values = append(values, fmt.Sprint(n.IntValue))
		} else {
			values = append(values, a.Value.GetStringValue())
		}
	}
	return strings.Join(values, " ")
}

// first is the earliest span of a name.
func (t spans) first(name string) *tracepb.Span {
	for _, s := range t {
		if s.Name == name {
			return s.Span
		}
	}
	return new(tracepb.Span)
}

// saneTimes says what is wrong with the times, given what follows from what.
// Spans may overlap: a consumer may apply what the streamer has no answer for yet.
func (t spans) saneTimes(posted, ended time.Time) error {
	post, stage, number, publish := t.first("POST /rides"), t.first("stage"), t.first("number"), t.first("publish")
	times := []uint64{uint64(posted.UnixNano()), post.StartTimeUnixNano, stage.StartTimeUnixNano, number.EndTimeUnixNano, publish.StartTimeUnixNano}
	for _, s := range t {
		if s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano > uint64(ended.UnixNano()) {
			return fmt.Errorf("%s is from %d to %d, before %d", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano, ended.UnixNano())
		}
		if s.Name == "apply" && s.EndTimeUnixNano < publish.StartTimeUnixNano {
			return fmt.Errorf("applied at %d, published from %d", s.EndTimeUnixNano, publish.StartTimeUnixNano)
		}
	}
	if !slices.IsSorted(times) || stage.EndTimeUnixNano > post.EndTimeUnixNano {
		return fmt.Errorf("from the request to the append: %d; the stage ends at %d, the answer at %d", times, stage.EndTimeUnixNano, post.EndTimeUnixNano)
	}
	return nil
}
