// Package metrics counts what streamers, consumers and deliverers do, for Prometheus:
//
//	s, err := streamer.New(streamer.Config{…, Observer: metrics.Streamer(registry)})
//	c, err := consumer.New(consumer.Config{…, Observer: metrics.Consumer(registry, "sum")})
//	d, err := deliverer.New(deliverer.Config{…, Observer: metrics.Deliverer(registry, "webhook")})
//	registry.MustRegister(metrics.Status(db, unilog.DefaultSchema, log))
//
// What a process counts begins at 0 when it starts. What is read from the database
// is the same whichever process is asked.
package metrics

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/histogram"
	"github.com/rocketrides/unilog/streamer"
)

// Streamer registers the metrics of one streamer, and returns the observer that
// counts them. It panics if the registry has those of another streamer.
func Streamer(reg prometheus.Registerer) streamer.Observer {
	m := promauto.With(reg)
	var (
		leader    = m.NewGauge(gauge("unilog_leader", "Partitions that this process leads."))
		epoch     = m.NewGaugeVec(gauge("unilog_epoch", "The epoch of this process's term of leadership over a partition, 0 without one."), []string{"partition"})
		numbered  = m.NewCounter(counter("unilog_records_numbered_total", "Records that got their offsets."))
		published = m.NewCounter(counter("unilog_records_published_total",
			"Records that the log took. Those that it had lost are counted again."))
		doubles = m.NewCounter(counter("unilog_double_sends_refused_total",
			"Appends that the log refused because it had their records already."))
		losses = m.NewCounter(counter("unilog_log_losses_total",
			"Times that the log was found to have lost records, which are then published again."))
		numberTook = m.NewHistogram(histogram.Options("unilog_number_duration_seconds",
			"Time to number a batch.", histogram.Seconds))
		appendTook = m.NewHistogram(histogram.Options("unilog_append_duration_seconds",
			"Time of an append, failed ones included.", histogram.Seconds))
		numberedBatch = m.NewHistogram(histogram.Options("unilog_numbered_batch_records",
			"Records of a batch that was numbered.", histogram.Sizes))
		appendedBatch = m.NewHistogram(histogram.Options("unilog_appended_batch_records",
			"Records of an append that the log took.", histogram.Sizes))
		failed = retries(m, "unilog_streamer_retries_total", "Times that the streamer started again after an error, by its cause.")
	)
	return streamer.Observer{
		Leading: func(partition int, term int64) {
			epoch.WithLabelValues(strconv.Itoa(partition)).Set(float64(term))
			if term > 0 {
				leader.Inc()
			} else {
				leader.Dec()
			}
		},
		Numbered: func(entries []unilog.Entry, took time.Duration) {
			numbered.Add(float64(len(entries)))
			numberedBatch.Observe(float64(len(entries)))
			numberTook.Observe(took.Seconds())
		},
		Appended: func(entries []unilog.Entry, took time.Duration, err error) {
			appendTook.Observe(took.Seconds())
			switch {
			case err == nil:
				published.Add(float64(len(entries)))
				appendedBatch.Observe(float64(len(entries)))
			case errors.Is(err, unilog.ErrAlreadyAppended):
				doubles.Inc()
			}
		},
		LogLost: func(int, int64) { losses.Inc() },
		Failed:  failed,
	}
}

// Consumer registers the metrics of the consumer of a name, and returns the
// observer that counts them. It panics if the registry has them already.
func Consumer(reg prometheus.Registerer, name string) consumer.Observer {
	m := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"consumer": name}, reg))
	var (
		applied = m.NewCounter(counter("unilog_records_applied_total",
			"Records that were applied or delivered, or parked, and saved."))
		parked = m.NewCounter(counter("unilog_records_parked_total",
			"Rejected records that were put into dead_letters."))
		passed = m.NewCounter(counter("unilog_records_passed_over_total",
			"Records that were passed over because the consumer does not ask for their kind."))
		gaps = m.NewCounter(counter("unilog_gaps_filled_total",
			"Reads from the archive of records that the log had lost, or no longer held."))
		filled = m.NewCounter(counter("unilog_gap_records_filled_total",
			"Records that were read from the archive because the log had lost them, or no longer held them."))
		commitTook = m.NewHistogram(histogram.Options("unilog_commit_duration_seconds",
			"Time of a transaction, from its beginning to the end of its commit, or of a delivery.", histogram.Seconds))
		batch = m.NewHistogram(histogram.Options("unilog_committed_batch_records",
			"Records of a transaction, or of a delivery.", histogram.Sizes))
		latency = m.NewHistogram(histogram.Options("unilog_record_latency_seconds",
			"Time from when a record was staged, by Postgres's clock, to when it was applied or delivered, and saved, by this machine's.", histogram.Ages))
		unreported = m.NewCounter(counter("unilog_report_failures_total",
			"Times that the consumer or deliverer, which keeps its checkpoints elsewhere, could not report to the log."))
		failed = retries(m, "unilog_consumer_retries_total",
			"Times that the consumer or deliverer started again from its checkpoint after an error, by its cause.")
	)
	return consumer.Observer{
		Committed: func(entries []unilog.Entry, took time.Duration) {
			applied.Add(float64(len(entries)))
			batch.Observe(float64(len(entries)))
			commitTook.Observe(took.Seconds())
			now := time.Now()
			for i := range entries {
				latency.Observe(max(0, now.Sub(entries[i].StagedAt).Seconds())) // clocks differ
			}
		},
		GapFilled: func(entries []unilog.Entry) {
			gaps.Inc()
			filled.Add(float64(len(entries)))
		},
		PassedOver: func(entries int64) { passed.Add(float64(entries)) },
		Parked:     func(unilog.Entry, error) { parked.Inc() },
		Failed:     failed,
		Unreported: func(error) { unreported.Inc() },
	}
}

// Deliverer registers the metrics of the deliverer of a name, and returns the
// observer that counts them. They are those of a [Consumer], with the deliverer's name
// in the label consumer. It panics if the registry has them already.
func Deliverer(reg prometheus.Registerer, name string) deliverer.Observer {
	o := Consumer(reg, name)
	return deliverer.Observer{
		Committed: o.Committed, GapFilled: o.GapFilled, PassedOver: o.PassedOver, Parked: o.Parked, Failed: o.Failed, Unreported: o.Unreported,
	}
}

// retries counts errors by their cause. All causes are there from the beginning,
// so that the first error is seen as an increase.
func retries(m promauto.Factory, name, help string) func(error) {
	total := m.NewCounterVec(counter(name, help), []string{"cause"})
	for _, cause := range causes {
		total.WithLabelValues(cause)
	}
	return func(err error) { total.WithLabelValues(Cause(err)).Inc() }
}

func counter(name, help string) prometheus.CounterOpts {
	return prometheus.CounterOpts{Name: name, Help: help}
}

func gauge(name, help string) prometheus.GaugeOpts {
	return prometheus.GaugeOpts{Name: name, Help: help}
}
