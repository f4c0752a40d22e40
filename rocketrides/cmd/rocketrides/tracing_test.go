package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// caller is the span of whoever books.
const caller = "b7ad6b7169203331"

// bookTraced books a ride in the trace n, and returns the trace's id.
func bookTraced(t *testing.T, port, n int, flags string) string {
	t.Helper()
	id := fmt.Sprintf("%032x", n)
	var response *http.Response
	await.That(t, "an answer of the api", func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/rides?distance=%d", port, n), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		request.Header.Set("Traceparent", "00-"+id+"-"+caller+"-"+flags)
		if response, err = http.DefaultClient.Do(request); err != nil { // it hears no request that comes long after its connection
			return err.Error()
		}
		return ""
	})
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Errorf("the ride of trace %d: %s %s", n, response.Status, body)
	}
	return id
}

// seedFor returns one with which the streamer fails as told.
func seedFor(t *testing.T, failures ...bool) uint64 {
next:
	for seed := uint64(1); ; seed++ {
		flags := failureFlags{SimulateFailures: 0.5, Seed: seed}
		hook, err := flags.hook(t.Context(), slog.New(slog.DiscardHandler), "streamer", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, fail := range failures {
			if (hook(nil, make([]unilog.Entry, 1)) != nil) != fail {
				continue next
			}
		}
		return seed
	}
}

func startAPI(t *testing.T, env []string) (api *process, port int) {
	port = freePort(t)
	api = start(t, env, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	return api, port
}

// TestTrace follows rides from the request to the commits of two consumers. With
// -v it draws the traces.
func TestTrace(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	collector := newCollector(t)
	env = append(append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t)), collector.env()...)
	// The second batch is sent twice.
	streamer := start(t, env, "streamer", "--simulate-failures=0.5", fmt.Sprintf("--seed=%d", seedFor(t, false, true, false, false)))
	streamer.says("leading")
	api, port := startAPI(t, env)
	consumers := []*process{start(t, env, "consumer", "a"), start(t, env, "consumer", "b")}

	posted := time.Now()
	var traces []string
	for i, c := range []struct{ flags, said string }{
		{"01", "published"}, {"01", "double send refused"}, {"00", "published"},
	} {
		traces = append(traces, bookTraced(t, port, i+1, c.flags))
		for _, p := range consumers {
			p.says("consumed", fmt.Sprintf("offset=%d", i+1))
		}
		streamer.says(c.said, fmt.Sprintf("last=%d", i+1))
	}
	for _, p := range append(consumers, api, streamer) {
		p.terminate() // sends the spans
	}
	ended := time.Now()

	const once = `POST /rides SERVER rocketrides-api
  stage PRODUCER rocketrides-api
    apply CONSUMER rocketrides-consumer 1 a
    apply CONSUMER rocketrides-consumer 1 b
    number INTERNAL rocketrides-streamer 1
    publish CLIENT rocketrides-streamer 1
`
	twice := strings.ReplaceAll(once, " 1", " 2") + "    publish CLIENT rocketrides-streamer 2 double send\n"
	for i, want := range []string{once, twice, ""} {
		trace := collector.trace(traces[i])
		t.Logf("trace %d: %d spans\n%s", i+1, len(trace), trace.timeline(caller))
		if got := trace.shape(caller); got != want || strings.Count(got, "\n") != len(trace) {
			t.Errorf("of the trace %d there are %d spans, in the tree\n%s, want\n%s", i+1, len(trace), got, want)
		} else if want != "" {
			if err := trace.saneTimes(posted, ended); err != nil {
				t.Errorf("trace %d: %v", i+1, err)
			}
		}
		carried := `{}`
		if stage := trace.first("stage"); len(trace) > 0 {
			carried = fmt.Sprintf(`{"traceparent": "00-%s-%x-01"}`, traces[i], stage.SpanId)
		}
		var headers string
		err := pool.QueryRow(t.Context(), `SELECT headers::text FROM unilog.records WHERE "offset" = $1`, i+1).Scan(&headers)
		if err != nil || headers != carried {
			t.Errorf("record %d has the headers %s, %v; want %s", i+1, headers, err, carried)
		}
	}
}

func TestTracesAreOff(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]string{"not asked for": "", "disabled": "OTEL_SDK_DISABLED=true", "none": "OTEL_TRACES_EXPORTER=none"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, env := database(t)
			collector := newCollector(t)
			if off != "" {
				env = append(append(env, collector.env()...), off)
			}
			api, port := startAPI(t, env)
			id := bookTraced(t, port, 1, "01")
			api.terminate()
			var headers string
			err := pool.QueryRow(t.Context(), `SELECT coalesce(headers::text, '{}') FROM unilog.staged_records`).Scan(&headers)
			if spans := collector.trace(id); err != nil || headers != "{}" || len(spans) != 0 {
				t.Errorf("the record has the headers %s, %v; there are %d spans", headers, err, len(spans))
			}
		})
	}
}

func TestTraceSettings(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for says, env := range map[string][]string{
		`OTEL_TRACES_EXPORTER is "zipkin": it must be otlp, console or none`:   {"OTEL_TRACES_EXPORTER=zipkin"},
		`OTEL_EXPORTER_OTLP_PROTOCOL is "grpc": it must be http/protobuf`:      {endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		`OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is "http/json": it must be`:        {endpoint, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/json"},
		`OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4`: {"OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318"},
		`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must be a URL such as`:             {endpoint, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=//collector"},
	} {
		execute(t, env, "streamer").fails(t, cli.ExitUsage, says)
	}
	_, env := database(t)
	api, port := startAPI(t, append(env, "OTEL_TRACES_EXPORTER=console", "OTEL_SERVICE_NAME=my-api"))
	bookTraced(t, port, 1, "01")
	if said := api.stop(); !strings.Contains(said, `"Name":"POST /rides"`) || !strings.Contains(said, `"my-api"`) {
		t.Errorf("with OTEL_TRACES_EXPORTER=console it says\n%s", said)
	}
}

// A collector that is away delays nothing, and costs a line a minute.
func TestNoCollector(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for name, address := range map[string]string{"refused": fmt.Sprintf("127.0.0.1:%d", freePort(t)), "silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, env := database(t)
			began := time.Now()
			api, port := startAPI(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://"+address, "OTEL_BSP_SCHEDULE_DELAY=1"))
			for n := range 20 {
				bookTraced(t, port, n+1, "01")
			}
			said := api.stop()
			most := 1 + int(time.Since(began)/time.Minute)
			if n := strings.Count(said, "check the collector"); n < 1 || n > most {
				t.Errorf("it says %d times, want once to %d times, to check the collector:\n%s", n, most, said)
			}
		})
	}
}

// What the SDK makes nothing of may be a password.
func TestTraceSecrets(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	api := start(t, append(env, "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:hunter2@127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_HEADERS=hunter2,authorization=hunter2%zz"), "api", "--port=0")
	said, _ := api.readTo(func(line string) bool { return strings.Contains(line, "api listens") })
	if said += api.stop(); strings.Contains(said, "hunter2") || strings.Count(said, "OTEL_EXPORTER_OTLP_*") != 2 {
		t.Errorf("it says\n%s", said)
	}
}
