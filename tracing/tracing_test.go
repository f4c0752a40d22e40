package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/tracing"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	stageID = "b7ad6b7169203331"
	sampled = "00-" + traceID + "-" + stageID + "-01"
)

func TestInject(t *testing.T) {
	t.Parallel()
	own := map[string]string{"own": "1"}
	record := unilog.Record{Headers: own}
	tracing.Inject(t.Context(), &record)
	if !maps.Equal(record.Headers, own) {
		t.Errorf("without a trace, the headers are %v", record.Headers)
	}
	for _, flags := range []string{"01", "00"} { // the caller's decision goes on
		parent := sampled[:len(sampled)-2] + flags
		ctx := propagation.TraceContext{}.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent, "tracestate": "a=b"})
		record := unilog.Record{Headers: own}
		tracing.Inject(ctx, &record)
		want := map[string]string{"own": "1", "traceparent": parent, "tracestate": "a=b"}
		if !maps.Equal(record.Headers, want) || len(own) != 1 {
			t.Errorf("the headers are %v, want %v; those given are %v", record.Headers, want, own)
		}
	}
}

func TestObservers(t *testing.T) {
	t.Parallel()
	entries := make([]unilog.Entry, 5)
	for i, parent := range []string{"", "x", sampled[:len(sampled)-2] + "00", sampled} {
		entries[i].Headers = map[string]string{"traceparent": parent}
	}
	entries[3].Partition, entries[3].Offset = 2, 7
	memory := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(memory))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	streamer, consumer, deliverer := tracing.Streamer(provider), tracing.Consumer(provider, "sum"), tracing.Deliverer(provider, "sum")
	const about = " messaging.system=unilog messaging.operation.name=%s messaging.destination.partition.id=2 messaging.batch.message_count=%d messaging.unilog.offset=7"
	for _, c := range []struct {
		observe func(took time.Duration)
		kind    trace.SpanKind
		name    string
		batch   int
		more    string
	}{
		{func(took time.Duration) { streamer.Numbered(entries, took) }, trace.SpanKindInternal, "number", 5, ""},
		{func(took time.Duration) { streamer.Appended(entries, took, nil) }, trace.SpanKindClient, "publish", 5, " messaging.operation.type=send"},
		{
			func(took time.Duration) { streamer.Appended(entries, took, unilog.ErrAlreadyAppended) },
			trace.SpanKindClient, "publish", 5, " messaging.operation.type=send messaging.unilog.refused=double send",
		},
		{
			func(took time.Duration) { streamer.Appended(entries, took, fmt.Errorf("at 3: %w", unilog.ErrBehind)) },
			trace.SpanKindClient, "publish", 5, " messaging.operation.type=send messaging.unilog.refused=the log has lost entries before this one",
		},
		{func(took time.Duration) { streamer.Appended(entries, took, errors.New("down")) }, trace.SpanKindClient, "publish", 5, " messaging.operation.type=send error: down"},
		{func(took time.Duration) { consumer.Committed(entries, took) }, trace.SpanKindConsumer, "apply", 5, " messaging.operation.type=process messaging.consumer.group.name=sum"},
		{func(took time.Duration) { deliverer.Committed(entries, took) }, trace.SpanKindConsumer, "deliver", 5, " messaging.operation.type=process messaging.consumer.group.name=sum"},
		{func(time.Duration) { consumer.Parked(entries[3], errors.New("no ride")) }, trace.SpanKindConsumer, "park", 1, " messaging.operation.type=process messaging.consumer.group.name=sum error: no ride"},
	} {
		memory.Reset()
		took := 3 * time.Second
		c.observe(took)
		if c.name == "park" {
			took = 0 // a moment
		}
		spans := memory.GetSpans()
		if len(spans) != 1 {
			t.Errorf("%s: there are %d spans of one sampled entry", c.name, len(spans))
			continue
		}
		s := spans[0]
		got := ""
		for _, a := range s.Attributes {
			got += fmt.Sprintf(" %s=%s", a.Key, a.Value)
		}
		if s.Status.Description != "" {
			got += " error: " + s.Status.Description
		}
		if want := fmt.Sprintf(about, c.name, c.batch) + c.more; got != want || s.Name != c.name || s.SpanKind != c.kind {
			t.Errorf("the span is a %s %s with\n%s, want a %s %s with\n%s", s.SpanKind, s.Name, got, c.kind, c.name, want)
		}
		if s.Parent.TraceID().String() != traceID || s.Parent.SpanID().String() != stageID || s.EndTime.Sub(s.StartTime) != took {
			t.Errorf("%s is a child of %s, and took %s, not %s", c.name, s.Parent.SpanID(), s.EndTime.Sub(s.StartTime), took)
		}
	}
}
