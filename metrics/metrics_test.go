package metrics_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/streamer"
)

// once returns a hook that does something the first time.
func once(do func() error) func(context.Context, []unilog.Entry) error {
	done := false
	return func(context.Context, []unilog.Entry) error {
		if done {
			return nil
		}
		done = true
		return do()
	}
}

func crash() error { return unilog.ErrSimulated }

// Each thing that can be counted happens a known number of times.
func TestCounts(t *testing.T) {
	t.Parallel()
	counted(t, counts)
}

func counts(w *world) {
	w.reg.MustRegister(metrics.Status(w.db, "", w.log))
	var lose func() error
	s := w.streamer(func(cfg *streamer.Config) {
		cfg.Observer = metrics.Streamer(w.reg)
		cfg.Hooks.AfterAppend = once(crash)
		cfg.Hooks.AfterNumber = func(context.Context, []unilog.Entry) error { return lose() }
	})
	lose = func() error { return nil }
	w.stage(`1`, `2`, `3`)
	w.drain(s.RunOnce) // twice, because of the crash
	lose = func() error { w.memory.Lose(0, 0); return nil }
	w.stage(`"poison"`)
	w.drain(s.RunOnce)
	lose = func() error { return nil }
	w.stage(`5`)
	w.drain(s.RunOnce)
	var epoch float64
	w.must(w.near.QueryRow(w.Context(), `SELECT epoch FROM unilog.partitions`).Scan(&epoch))
	w.want(map[string]float64{
		"unilog_records_numbered_total": 5, "unilog_records_published_total": 3 + 4 + 1,
		"unilog_double_sends_refused_total": 1, "unilog_log_losses_total": 1,
		"unilog_number_duration_seconds_count": 3,
		"unilog_numbered_batch_records_count":  3, "unilog_numbered_batch_records_sum": 5,
		"unilog_append_duration_seconds_count": 5, // the double and the one that met the loss, too
		"unilog_appended_batch_records_count":  3, "unilog_appended_batch_records_sum": 8,
		"unilog_leader": 1, `unilog_epoch{partition="0"}`: epoch,
		`unilog_streamer_retries_total{cause="simulated"}`: 1, `unilog_streamer_retries_total{cause="log"}`: 0,
	})

	w.must(w.memory.Trim(w.Context(), 0, 4))
	c := w.consumer(func(cfg *consumer.Config) {
		cfg.Observer = metrics.Consumer(w.reg, cfg.Name)
		cfg.Hooks.BeforeCommit = once(crash)
	})
	w.drain(c.RunOnce)
	w.want(map[string]float64{
		`unilog_records_applied_total{consumer="c"}`: 5, `unilog_records_parked_total{consumer="c"}`: 1,
		`unilog_gaps_filled_total{consumer="c"}`: 2, `unilog_gap_records_filled_total{consumer="c"}`: 8, // again after the crash
		`unilog_committed_batch_records_sum{consumer="c"}`:              5,
		`unilog_record_latency_seconds_count{consumer="c"}`:             5,
		`unilog_consumer_retries_total{cause="simulated",consumer="c"}`: 1,
		`unilog_consumer_retries_total{cause="postgres",consumer="c"}`:  0,
	})
	w.drain(w.consumer(func(cfg *consumer.Config) {
		cfg.Name, cfg.Only = "selective", []unilog.Kind{{Object: "nothing"}}
		cfg.Observer = metrics.Consumer(w.reg, cfg.Name)
	}).RunOnce)
	w.want(map[string]float64{
		`unilog_records_applied_total{consumer="selective"}`: 0, `unilog_records_passed_over_total{consumer="selective"}`: 5,
		`unilog_records_passed_over_total{consumer="c"}`: 0,
	})
}

// Each thing that a deliverer can count happens a known number of times.
func TestDelivererCounts(t *testing.T) {
	t.Parallel()
	counted(t, delivererCounts)
}

func delivererCounts(w *world) {
	s := w.streamer(func(*streamer.Config) {})
	w.stage(`1`, `"poison"`, `3`)
	w.drain(s.RunOnce)
	w.must(w.memory.Trim(w.Context(), 0, 3))
	w.stage(`4`)
	w.drain(s.RunOnce)
	down := true
	d, err := deliverer.New(deliverer.Config{
		Name: "hook", Log: w.log, Archive: w.db, Checkpoints: deliverer.PostgresCheckpoints(w.db), Logger: quiet,
		ParkRejected: true, Observer: metrics.Deliverer(w.reg, "hook"),
		Deliver: func(_ context.Context, _ string, entries []unilog.Entry) error {
			switch {
			case down:
				return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			case string(entries[0].Data) == `"poison"`:
				return deliverer.Reject(errors.New("poison"))
			}
			return nil
		},
	})
	w.must(err)
	if _, err := d.RunOnce(w.Context()); !w.tooSlow(err) && metrics.Cause(err) != "destination" {
		w.Fatalf("it says %v", err)
	}
	down = false
	w.drain(d.RunOnce)
	w.want(map[string]float64{
		`unilog_records_applied_total{consumer="hook"}`: 4, `unilog_records_parked_total{consumer="hook"}`: 1,
		`unilog_gaps_filled_total{consumer="hook"}`: 2, `unilog_gap_records_filled_total{consumer="hook"}`: 6, // again after the failure
		`unilog_commit_duration_seconds_count{consumer="hook"}`:              4,
		`unilog_committed_batch_records_sum{consumer="hook"}`:                4,
		`unilog_record_latency_seconds_count{consumer="hook"}`:               4,
		`unilog_consumer_retries_total{cause="destination",consumer="hook"}`: 1,
		`unilog_consumer_retries_total{cause="postgres",consumer="hook"}`:    0,
	})
}

// A log that is lost while nothing is staged is found by a look, not by an append.
func TestLossOfAnIdleLogIsCounted(t *testing.T) {
	t.Parallel()
	counted(t, lossOfAnIdleLogIsCounted)
}

func lossOfAnIdleLogIsCounted(w *world) {
	s := w.streamer(func(cfg *streamer.Config) { cfg.Observer = metrics.Streamer(w.reg) })
	w.stage(`1`)
	w.drain(s.RunOnce)
	w.memory.Lose(0, 0)
	await.True(w, "the streamer to look", func() bool {
		n, err := s.RunOnce(w.Context())
		if !w.tooSlow(err) {
			w.must(err)
		}
		return n > 0 || w.slow
	})
	w.want(map[string]float64{"unilog_log_losses_total": 1, "unilog_records_published_total": 2, "unilog_records_numbered_total": 1})
}

// Who scrapes native histograms gets them, others classic ones.
func TestHistogramsAreNativeAndClassic(t *testing.T) {
	t.Parallel()
	w := setup(t)
	metrics.Streamer(w.reg)
	metrics.Consumer(w.reg, "c")
	metrics.Consumer(w.reg, "another") // beside the first
	families, err := w.reg.Gather()
	w.must(err)
	histograms := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				histograms++
				if h.Schema == nil || len(h.GetBucket()) == 0 {
					t.Errorf("%s has the schema %v and %d classic buckets", f.GetName(), h.Schema, len(h.GetBucket()))
				}
			}
		}
	}
	if histograms != 4+2*3 {
		t.Errorf("%d histograms", histograms)
	}
	text, _ := testenv.Scrape(t, w.url)
	if !strings.Contains(text, `unilog_append_duration_seconds_bucket{le="0.005"} 0`) {
		t.Errorf("no classic buckets in\n%s", text)
	}
}
