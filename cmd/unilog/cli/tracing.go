package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketrides/unilog/internal/version"
)

const (
	// flushTimeout bounds the sending of what is left when a process ends.
	flushTimeout = 2 * time.Second
	// traceErrorPause is the time between two lines about a collector.
	traceErrorPause = time.Minute
)

// StartTracing returns what takes the spans of a process, nil if the variables
// OTEL_* ask for none, and how to send the last of them. The SDK reads the other
// variables: what to sample, headers, batches.
func (p *Program) StartTracing(ctx context.Context, log *slog.Logger, process string) (trace.TracerProvider, func(), error) {
	kind, err := tracesExporter()
	if err != nil {
		return nil, nil, &ExitError{ExitUsage, err}
	}
	if kind == "none" {
		return nil, func() {}, nil
	}
	otel.SetErrorHandler(&traceErrors{log: log})
	otel.SetLogger(logr.New(traceSettings{log}))
	var exporter sdktrace.SpanExporter
	if kind == "console" {
		exporter, err = stdouttrace.New()
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName(p.Name+"-"+process), semconv.ServiceVersion(version.String(p.Name))),
		resource.WithFromEnv(), // the last one wins
	)
	if err != nil {
		otel.Handle(err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return provider, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			otel.Handle(err)
		}
	}, nil
}

// tracesExporter is "otlp", "console" or "none".
func tracesExporter() (string, error) {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return "none", nil
	}
	name, endpoint := firstSet("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	kind := os.Getenv("OTEL_TRACES_EXPORTER")
	if kind == "" && endpoint == "" {
		return "none", nil
	}
	switch kind = cmp.Or(kind, "otlp"); kind {
	case "none", "console":
		return kind, nil
	case "otlp":
	default:
		return "", fmt.Errorf("OTEL_TRACES_EXPORTER is %q: it must be otlp, console or none", kind)
	}
	// The SDK would take no notice, and send to localhost.
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		return "", fmt.Errorf("%s must be a URL such as http://collector:4318", name) // it may have a password
	}
	name, protocol := firstSet("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" {
		return "", fmt.Errorf("%s is %q: it must be http/protobuf, on the collector's port 4318 as a rule", name, protocol)
	}
	return kind, nil
}

// firstSet returns the first variable that is set, or the last one.
func firstSet(names ...string) (name, value string) {
	for _, name = range names {
		if value = os.Getenv(name); value != "" {
			break
		}
	}
	return name, value
}

// traceErrors logs why spans are lost, seldom: a collector that is away costs them
// and nothing else.
type traceErrors struct {
	log  *slog.Logger
	mu   sync.Mutex
	said time.Time
}

func (e *traceErrors) Handle(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now := time.Now(); e.said.IsZero() || now.Sub(e.said) >= traceErrorPause {
		e.said = now
		e.log.Warn("traces: check the collector and the variables OTEL_*", "err", err)
	}
}

// traceSettings logs which settings the SDK makes nothing of, but not what they
// are: they may be passwords.
type traceSettings struct{ log *slog.Logger }

func (traceSettings) Init(logr.RuntimeInfo)            {}
func (traceSettings) Enabled(int) bool                 { return false }
func (traceSettings) Info(int, string, ...any)         {}
func (s traceSettings) WithValues(...any) logr.LogSink { return s }
func (s traceSettings) WithName(string) logr.LogSink   { return s }

func (s traceSettings) Error(_ error, failed string, _ ...any) {
	s.log.Warn("traces: a variable OTEL_EXPORTER_OTLP_* is not as it should be and has no effect", "failed", failed)
}
