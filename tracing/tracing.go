// Package tracing carries OpenTelemetry traces through a log: from the context
// in which a record is staged, in the record's headers, to the commit of each
// consumer that applies it.
//
// A writer calls [Inject] before it stages a record. Streamers, consumers and deliverers
// get the observers [Streamer], [Consumer] and [Deliverer], which make spans of the
// entries whose headers hold a sampled context:
//
//	number   an entry gets its offset, from the statement to its commit
//	publish  it is appended to the log; one span an attempt
//	apply    a consumer applies it, from the beginning of the transaction to its commit
//	deliver  a deliverer delivers it, from the beginning of the call to its end
//	park     it was rejected, so that the consumer has put it into dead_letters
//
// All of them are children of that context, and last as long as what was done
// with the whole batch of the entry. They follow the semantic conventions for
// messaging as far as these go.
package tracing

import (
	"context"
	"errors"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/streamer"
)

const scope = "github.com/rocketrides/unilog/tracing"

// The log is the messaging system here, whatever keeps it. What the conventions
// have no name for is in its namespace.
var system = semconv.MessagingSystemKey.String("unilog")

const (
	offsetKey = attribute.Key("messaging.unilog.offset")
	// refusedKey says why an append changed nothing, if that was no error.
	refusedKey = attribute.Key("messaging.unilog.refused")
)

// Inject puts the trace context of ctx, if there is one, into the headers of a
// record, as traceparent and tracestate of W3C Trace Context, without a tracestate
// of over 512 bytes, which nobody has to pass on. The map of headers is the record's
// own afterwards.
func Inject(ctx context.Context, record *unilog.Record) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return
	}
	headers := make(propagation.MapCarrier, len(record.Headers)+2)
	for name, value := range record.Headers {
		headers[name] = value
	}
	propagation.TraceContext{}.Inject(ctx, headers)
	if len(headers["tracestate"]) > 512 {
		delete(headers, "tracestate")
	}
	record.Headers = headers
}

// Streamer returns an observer that makes the spans of a streamer. A double send
// is an attempt of its own, with a span that says that it was refused: the one
// that succeeded has ended, perhaps in a process that is dead.
func Streamer(provider trace.TracerProvider) streamer.Observer {
	tracer := tracer{provider.Tracer(scope)}
	return streamer.Observer{
		Numbered: func(entries []unilog.Entry, took time.Duration) {
			tracer.spans("number", trace.SpanKindInternal, entries, took, nil)
		},
		Appended: func(entries []unilog.Entry, took time.Duration, err error) {
			attributes := []attribute.KeyValue{semconv.MessagingOperationTypeSend}
			switch {
			case errors.Is(err, unilog.ErrAlreadyAppended):
				attributes, err = append(attributes, refusedKey.String("double send")), nil
			case errors.Is(err, unilog.ErrBehind):
				attributes, err = append(attributes, refusedKey.String("the log has lost entries before this one")), nil
			}
			tracer.spans("publish", trace.SpanKindClient, entries, took, err, attributes...)
		},
	}
}

// Consumer returns an observer that makes the spans of the consumer of this name.
func Consumer(provider trace.TracerProvider, name string) consumer.Observer {
	return consuming(provider, name, "apply")
}

// Deliverer returns an observer that makes the spans of the deliverer of this name.
func Deliverer(provider trace.TracerProvider, name string) deliverer.Observer {
	o := consuming(provider, name, "deliver")
	return deliverer.Observer{Committed: o.Committed, Parked: o.Parked}
}

func consuming(provider trace.TracerProvider, name, operation string) consumer.Observer {
	tracer := tracer{provider.Tracer(scope)}
	attributes := []attribute.KeyValue{semconv.MessagingOperationTypeProcess, semconv.MessagingConsumerGroupName(name)}
	return consumer.Observer{
		Committed: func(entries []unilog.Entry, took time.Duration) {
			tracer.spans(operation, trace.SpanKindConsumer, entries, took, nil, attributes...)
		},
		Parked: func(entry unilog.Entry, err error) {
			tracer.spans("park", trace.SpanKindConsumer, []unilog.Entry{entry}, 0, err, attributes...)
		},
	}
}

type tracer struct{ trace.Tracer }

// spans makes a span of each entry that has a sampled context, all of them as
// long as the operation that has just ended.
func (t tracer) spans(name string, kind trace.SpanKind, entries []unilog.Entry, took time.Duration, err error, attributes ...attribute.KeyValue) {
	ended := time.Now()
	for i := range entries {
		e := &entries[i]
		if e.Headers["traceparent"] == "" {
			continue
		}
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(e.Headers))
		if !trace.SpanContextFromContext(ctx).IsSampled() {
			continue
		}
		_, span := t.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(ended.Add(-took)), trace.WithAttributes(
			system,
			semconv.MessagingOperationName(name),
			semconv.MessagingDestinationPartitionID(strconv.Itoa(e.Partition)),
			semconv.MessagingBatchMessageCount(len(entries)),
			offsetKey.Int64(e.Offset),
		), trace.WithAttributes(attributes...))
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End(trace.WithTimestamp(ended))
	}
}
