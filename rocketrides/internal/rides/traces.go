package rides

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/tracing"
)

// trace gives requests about rides a span each.
func (a *API) trace(provider trace.TracerProvider) {
	a.tracer = provider.Tracer("github.com/rocketrides/unilog/rocketrides/internal/rides")
	traced := otelhttp.NewHandler(a.handler, "",
		otelhttp.WithTracerProvider(provider),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Pattern }),
	)
	plain := a.handler
	a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost && r.URL.Path == "/rides":
			r.Pattern = "POST /rides"
		case r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/rides/"):
			r.Pattern = "GET /rides/{id}"
		default: // probes, and what is not there
			plain.ServeHTTP(w, r)
			return
		}
		traced.ServeHTTP(w, r)
	})
}

// stage books a ride, as [booker.book] does. If the request is traced, so is the
// booking until its commit, and its record carries that on. Requests that are not
// sampled cost nothing, so their records carry nothing.
func (a *API) stage(ctx context.Context, o order) (Ride, error) {
	if a.tracer == nil || !trace.SpanContextFromContext(ctx).IsSampled() {
		return a.bookings.book(ctx, o)
	}
	ctx, span := a.tracer.Start(ctx, "stage", trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		semconv.MessagingSystemKey.String("unilog"),
		semconv.MessagingOperationTypeCreate,
		semconv.MessagingOperationName("stage"),
	))
	defer span.End()
	var record unilog.Record
	tracing.Inject(ctx, &record)
	headers, err := unilog.EncodeHeaders(record.Headers)
	if err != nil {
		return Ride{}, err
	}
	text := string(headers)
	o.headers = &text
	ride, err := a.bookings.book(ctx, o)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return ride, err
}
