package rides

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rocketrides/unilog"
)

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

// recording returns what takes spans, and what it took.
func recording(t testing.TB) (trace.TracerProvider, *tracetest.InMemoryExporter) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	t.Cleanup(func() { _ = provider.Shutdown(context.Background()) })
	return provider, spans
}

func postTraced(api *API, traceparent, key, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/rides", strings.NewReader(body))
	r.Header.Set("Content-Type", formType)
	for name, value := range map[string]string{"Traceparent": traceparent, "Tracestate": "vendor=<1>", "Idempotency-Key": key} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w
}

// What a request's trace makes of its record, with and without a key.
func TestHeadersOfTracedRides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		traces      bool
		traceparent string
		spans       []string // in the order of their ends
	}{
		"off":             {false, sampled, nil},
		"sampled":         {true, sampled, []string{"stage", "POST /rides"}},
		"not sampled":     {true, unsampled, nil},
		"not one":         {true, "x", []string{"stage", "POST /rides"}},
		"from its sample": {true, "", []string{"stage", "POST /rides"}},
	} {
		for _, key := range []string{"", "key"} {
			t.Run(name+" "+key, func(t *testing.T) {
				t.Parallel()
				pool := newDatabase(t)
				provider, spans := recording(t)
				api, _ := newAPI(t, pool, func(cfg *APIConfig) {
					if c.traces {
						cfg.Traces = provider
					}
				})
				if w := postTraced(api, c.traceparent, key, "distance=1.50"); w.Code != http.StatusCreated {
					t.Fatalf("answered %d %s", w.Code, w.Body)
				}
				var names []string
				want := map[string]string{}
				for _, s := range spans.GetSpans() {
					names = append(names, s.Name)
					if s.Name == "stage" {
						want["traceparent"] = fmt.Sprintf("00-%s-%s-01", s.SpanContext.TraceID(), s.SpanContext.SpanID())
					}
				}
				if c.spans != nil && c.traceparent == sampled {
					want["tracestate"] = "vendor=<1>"
				}
				var text []byte
				if err := pool.QueryRow(t.Context(), `SELECT headers FROM unilog.staged_records`).Scan(&text); err != nil {
					t.Fatal(err)
				}
				headers, err := unilog.DecodeHeaders(text)
				if err != nil || !maps.Equal(headers, want) || !slices.Equal(names, c.spans) {
					t.Errorf("headers %s, %v, want %v; spans %q, want %q", text, err, want, names, c.spans)
				}
			})
		}
	}
}

// A group with a traced ride stages its records as another does, but for headers.
func TestTracedRidesAreStagedAsRecords(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	var orders []order
	var records []unilog.Record
	for i := range 300 {
		o := order{distance: mustParse(t, fmt.Sprintf("%d.50", 300-i))}
		record := unilog.Record{
			Action: recordAction, Object: recordObject, Key: fmt.Sprint(i + 1),
			Data: fmt.Appendf(nil, `{"id":%d,"distance":%s}`, i+1, o.distance),
		}
		switch i % 3 {
		case 0:
			text := fmt.Sprintf(`{"traceparent":"%d"}`, i)
			o.headers, record.Headers = &text, map[string]string{"traceparent": fmt.Sprint(i)}
		case 1:
			o.claim = &claim{key: HashKey(everyone, fmt.Sprint(i))}
		}
		orders, records = append(orders, o), append(records, record)
	}
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := createAll(t.Context(), conn, "", orders); err != nil {
		t.Fatal(err)
	}
	if err := unilog.Stage(t.Context(), pool, records...); err != nil {
		t.Fatal(err)
	}
	var same int
	err = pool.QueryRow(t.Context(), `
		SELECT count(*) FROM unilog.staged_records a JOIN unilog.staged_records b ON b.id = a.id + $1
			AND (a.action, a.object, a.key, a.data::text, coalesce(a.headers::text, '{}'))
			  = (b.action, b.object, b.key, b.data::text, coalesce(b.headers::text, '{}'))`, len(orders)).Scan(&same)
	if err != nil || same != len(orders) {
		t.Errorf("%d of %d rides are staged as their records are (%v)", same, len(orders), err)
	}
}

// Probes and what is refused make no spans; a refusal by the application does.
func TestRequestsWithoutSpans(t *testing.T) {
	t.Parallel()
	provider, spans := recording(t)
	api, _ := newAPI(t, newDatabase(t), func(cfg *APIConfig) { cfg.Traces = provider })
	for _, target := range []string{"/healthz", "/readyz", "/rides", "/nothing"} {
		request(api, http.MethodGet, target, "", "")
	}
	if got := spans.GetSpans(); len(got) != 0 {
		t.Errorf("there are %d spans, of which one is %s", len(got), got[0].Name)
	}
	postTraced(api, "", "", "distance=far")
	request(api, http.MethodGet, "/rides/1", "", "")
	got := spans.GetSpans()
	if len(got) != 2 || got[0].Name != "POST /rides" || got[1].Name != "GET /rides/{id}" {
		t.Errorf("the spans are %v", got.Snapshots())
	}
}

// BenchmarkBooking shows that who asks for no traces does not pay for them.
func BenchmarkBooking(b *testing.B) {
	pool := newDatabase(b)
	provider, _ := recording(b)
	for _, c := range []struct {
		name, traceparent string
		traces            trace.TracerProvider
	}{{"off", sampled, nil}, {"not sampled", unsampled, provider}} {
		b.Run(c.name, func(b *testing.B) {
			api, _ := newAPI(b, pool, func(cfg *APIConfig) { cfg.Traces = c.traces })
			b.ReportAllocs()
			for b.Loop() {
				if w := postTraced(api, c.traceparent, "", "distance=1.50"); w.Code != http.StatusCreated {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
