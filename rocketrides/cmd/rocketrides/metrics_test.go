package main

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// scraped is a process that shows its metrics.
type scraped struct {
	*process
	admin string // URL
}

func startScraped(t *testing.T, env []string, args ...string) *scraped {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := start(t, append(env, "ADMIN_LISTEN="+address), args...)
	answers(t, "http://"+address+"/readyz", 200, "true")
	return &scraped{p, "http://" + address}
}

// until scrapes until the samples are as wanted, and returns the text.
func (s *scraped) until(want map[string]float64) string {
	s.Helper()
	text := ""
	await.That(s, fmt.Sprintf("the metrics to be %v", want), func() string {
		var got map[string]float64
		text, got = testenv.Scrape(s, s.admin+"/metrics")
		for name, value := range want {
			if found, ok := got[name]; !ok || found != value {
				return text
			}
		}
		return ""
	})
	return text
}

// TestMetrics runs all processes under a known load, with failures.
func TestMetrics(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	pool, env := database(t)
	stream := testenv.StreamName(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+stream, "SEED=1")
	log, err := redislog.Open(t.Context(), patient(testenv.SharedRedis(t)), stream)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	failing := append(env, "SIMULATE_FAILURES=0.3")
	port := freePort(t)
	api := startScraped(t, env, "api", fmt.Sprintf("--port=%d", port))
	streamer := startScraped(t, failing, "streamer")

	// What the consumer needs first, the log holds no longer.
	const gap = 3
	booked := 0.0
	book := func(n int) {
		for range n {
			await.That(t, "an answer of the api", func() string {
				resp, err := http.PostForm(fmt.Sprintf("http://127.0.0.1:%d/rides", port), url.Values{"distance": {"1.5"}})
				if err != nil { // it hears no request that comes long after its connection
					return err.Error()
				}
				_ = resp.Body.Close()
				return ""
			})
			booked++
		}
	}
	book(gap + 1)
	streamer.until(map[string]float64{"unilog_log_head_offset": gap + 1})
	client := log.Client()
	if err := client.Do(t.Context(), client.B().Xtrim().Key(stream).Minid().Threshold(fmt.Sprint(gap+1)).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	consumer := startScraped(t, env, "consumer", "c", "--park-rejected")
	consumer.until(map[string]float64{`unilog_records_applied_total{consumer="c"}`: gap + 1})
	exec1(t, pool, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'ride', '{"id": 0}')`) // is parked
	book(20)
	// Where the machine pauses a simulator asks again: another api answers that.
	another, anotherPort := startAPI(t, env)
	simulator := startScraped(t, env, "simulator", "--rate=50", fmt.Sprintf("--port=%d", anotherPort))
	simulator.says("created")
	shown := shown{}
	shown.add(t, "simulator", simulator.until(nil))
	simulator.stop()
	another.stop()

	var rides float64
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM rides`).Scan(&rides); err != nil {
		t.Fatal(err)
	}
	records := rides + 1
	apiText := api.until(map[string]float64{
		"rocketrides_rides_booked_total":                                           booked,
		`rocketrides_http_requests_total{code="201",method="POST",route="/rides"}`: booked,
		`rocketrides_http_request_duration_seconds_count{route="/rides"}`:          booked,
		"rocketrides_booking_group_rides_sum":                                      booked,
		"rocketrides_http_requests_in_flight":                                      0,
	})
	consumerText := consumer.until(map[string]float64{
		`unilog_records_applied_total{consumer="c"}`: records, `unilog_records_parked_total{consumer="c"}`: 1,
		`unilog_gaps_filled_total{consumer="c"}`: 1, `unilog_gap_records_filled_total{consumer="c"}`: gap,
		`unilog_record_latency_seconds_count{consumer="c"}`: records,
	})
	streamerText := streamer.until(map[string]float64{
		"unilog_records_numbered_total": records, "unilog_records_published_total": records,
		"unilog_status_up": 1, "unilog_log_up": 1, "unilog_leaders": 1, "unilog_staged_records": 0,
		"unilog_log_head_offset": records, "unilog_published_offset": records, "unilog_log_losses_total": 0,
		`unilog_consumer_checkpoint_offset{consumer="c"}`: records, `unilog_consumer_lag_records{consumer="c"}`: 0,
		`unilog_dead_letters{consumer="c"}`: 1,
	})
	api.stop()
	consumer.stop()
	said := streamer.stop()
	for name, words := range map[string]string{
		"unilog_double_sends_refused_total":                "double send refused",
		`unilog_streamer_retries_total{cause="simulated"}`: "simulated crash after publishing",
	} {
		if n := strings.Count(said, words); n == 0 || !strings.Contains(streamerText, fmt.Sprintf("\n%s %d\n", name, n)) {
			t.Errorf("it said %d times %q, and %s is another in\n%s", n, words, name, streamerText)
		}
	}
	shown.add(t, "api", apiText)
	shown.add(t, "consumer", consumerText)
	shown.add(t, "streamer", streamerText)
	shown.check(t)
}

// shown are the rows of docs/metrics.md, but for the processes that show them.
type shown map[string][]string

var (
	helpLine   = regexp.MustCompile(`(?m)^# HELP (\w+) (.*)\n# TYPE \w+ (\w+)\n\w+(?:{(.*)})? `)
	labelNames = regexp.MustCompile(`(\w+)="[^"]*"`)
)

// add notes what a scrape of a process shows, and that Prometheus has nothing
// against it.
func (s shown) add(t *testing.T, process, text string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%s: promlint: %v, %v", process, problems, err)
	}
	for _, m := range helpLine.FindAllStringSubmatch(text, -1) {
		name, help, kind := m[1], m[2], m[3]
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") {
			continue
		}
		var labels []string
		for _, label := range labelNames.FindAllStringSubmatch(m[4], -1) {
			if label[1] != "le" {
				labels = append(labels, label[1])
			}
		}
		if labels != nil {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		row := fmt.Sprintf("| `%s` | %s | %s |", name, kind, help)
		s[row] = append(s[row], process)
	}
}

// check compares the document with what is shown.
func (s shown) check(t *testing.T) {
	t.Helper()
	var rows []string
	for _, row := range slices.Sorted(maps.Keys(s)) {
		processes := strings.Join(slices.Sorted(slices.Values(s[row])), ", ")
		rows = append(rows, fmt.Sprintf("%s %s |\n", row, processes))
	}
	table := strings.Join(rows, "")
	if got := strings.Join(regexp.MustCompile("(?m)^\\| `.*\n").FindAllString(readFile(t, metricsDoc), -1), ""); got != table {
		t.Errorf("docs/metrics.md has not the rows\n%s", table)
	}
}
