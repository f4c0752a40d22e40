package metrics

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/status"
)

const (
	// statusAge is how long a reading serves all who ask.
	statusAge = time.Second
	// statusTimeout bounds a reading: scrapes are often given no more than 5 s.
	statusTimeout = 3 * time.Second
)

// Status returns a collector of what [status.Read] tells of the log in a schema. However many ask,
// it reads once a second at most, and for 3 seconds at most. When the database
// cannot be read, unilog_status_up is 0 and what is not known is left out; so it
// is with unilog_log_up and the log.
//
// The collector is safe for concurrent use.
func Status(db status.Beginner, schema unilog.Schema, log unilog.Log) prometheus.Collector {
	return &statusCollector{db: db, schema: schema, log: log}
}

type statusCollector struct {
	db     status.Beginner
	schema unilog.Schema
	log    unilog.Log

	mu   sync.Mutex // held while it reads: who comes meanwhile gets the same
	read time.Time
	last reading
}

// reading is nil where something could not be read.
type reading struct {
	database *status.Status
	heads    []unilog.Head // by partition
}

var (
	statusUp = describe("unilog_status_up", "1 if the database could be read; what it knows is left out if not.")
	logUp    = describe("unilog_log_up", "1 if the log can be read.")
	logHead  = describe("unilog_log_head_offset", "The last offset of the log, added up over its partitions.")

	inDatabase = []struct {
		*prometheus.Desc
		value func(*status.Status) float64
	}{
		{
			describe("unilog_staged_records", "Staged records that are not numbered yet."),
			func(s *status.Status) float64 { return float64(s.Staged) },
		},
		{
			describe("unilog_staged_oldest_seconds", "How long the oldest staged record waits to be numbered, 0 without one."),
			func(s *status.Status) float64 { return s.StagedFor },
		},
		{
			describe("unilog_numbered_offset", "The last offset that was given, added up over the partitions."),
			func(s *status.Status) float64 { return float64(s.Numbered) },
		},
		{
			describe("unilog_published_offset", "The last offset that the database knows to be in the log, added up over the partitions."),
			func(s *status.Status) float64 { return float64(s.Published) },
		},
		{
			describe("unilog_archive_first_offset", "The first offset that the archive holds, or will; of several partitions, one more than the records that it no longer holds."),
			func(s *status.Status) float64 { return float64(s.First) },
		},
		{
			describe("unilog_partitions", "Partitions that the log has."),
			func(s *status.Status) float64 { return float64(len(s.Partitions)) },
		},
		{
			describe("unilog_leaders", "Partitions that a streamer leads."),
			func(s *status.Status) float64 { return float64(s.Leaders()) },
		},
		{
			describe("unilog_trouble_seconds", "For how long no attempt to publish has succeeded in any one partition, 0 when the last one did."),
			func(s *status.Status) float64 { return s.TroubledFor },
		},
		{
			describe("unilog_old_transactions", "Transactions of the database that have been open for over a minute; no more than 5 are counted."),
			func(s *status.Status) float64 { return float64(len(s.Old)) },
		},
	}

	partitionHead = describe("unilog_partition_log_head_offset", "The last offset of the partition's log.", "partition")
	partitionLag  = describe("unilog_consumer_partition_lag_records", "Numbered records of the partition that the consumer has not applied.", "consumer", "partition")

	ofPartition = []struct {
		*prometheus.Desc
		value func(*status.Partition) float64
	}{
		{
			describe("unilog_partition_leaders", "1 if a streamer leads the partition, 0 if none does.", "partition"),
			func(p *status.Partition) float64 {
				if p.Leader == nil {
					return 0
				}
				return 1
			},
		},
		{
			describe("unilog_partition_numbered_offset", "The last offset that was given in the partition.", "partition"),
			func(p *status.Partition) float64 { return float64(p.Numbered) },
		},
		{
			describe("unilog_partition_published_offset", "The last offset of the partition that the database knows to be in the log.", "partition"),
			func(p *status.Partition) float64 { return float64(p.Published) },
		},
	}

	ofConsumer = []struct {
		*prometheus.Desc
		value func(status.Consumer) float64
	}{
		{
			describe("unilog_consumer_checkpoint_offset", "The last offset that the consumer has applied, added up over the partitions.", "consumer"),
			func(c status.Consumer) float64 { return float64(c.Checkpoint) },
		},
		{
			describe("unilog_consumer_lag_records", "Numbered records that the consumer has not applied.", "consumer"),
			func(c status.Consumer) float64 { return float64(c.Lag) },
		},
		{
			describe("unilog_consumer_lag_seconds", "How long the consumer's next record has waited since it was staged, in the partition where that is longest; 0 without one.", "consumer"),
			func(c status.Consumer) float64 { return c.LagSeconds },
		},
		{
			describe("unilog_consumer_silent_seconds", "How long ago the consumer last showed that it is alive, which it does every 30 s at least.", "consumer"),
			func(c status.Consumer) float64 { return c.Silent },
		},
		{
			paused,
			func(c status.Consumer) float64 {
				if c.Paused == nil {
					return 0
				}
				return 1
			},
		},
		{
			deadLetters,
			func(c status.Consumer) float64 { return float64(c.DeadLetters) },
		},
	}
	paused      = describe("unilog_consumer_paused", "1 if somebody has paused the consumer, 0 if not; not known of one elsewhere.", "consumer")
	deadLetters = describe("unilog_dead_letters", "Records that the consumer has parked and that nobody has retried or discarded; not known of one elsewhere.", "consumer")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (s *statusCollector) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{statusUp, logUp, logHead, partitionHead, partitionLag} {
		out <- desc
	}
	for _, m := range inDatabase {
		out <- m.Desc
	}
	for _, m := range ofPartition {
		out <- m.Desc
	}
	for _, m := range ofConsumer {
		out <- m.Desc
	}
}

// Collect implements prometheus.Collector.
func (s *statusCollector) Collect(out chan<- prometheus.Metric) {
	tell := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	r := s.recent()
	if r.heads == nil {
		tell(logUp, 0)
	} else {
		tell(logUp, 1)
		var all int64
		for i, head := range r.heads {
			all += head.Offset
			tell(partitionHead, float64(head.Offset), strconv.Itoa(i))
		}
		tell(logHead, float64(all))
	}
	if r.database == nil {
		tell(statusUp, 0)
		return
	}
	tell(statusUp, 1)
	for _, m := range inDatabase {
		tell(m.Desc, m.value(r.database))
	}
	for i := range r.database.Partitions {
		for _, m := range ofPartition {
			tell(m.Desc, m.value(&r.database.Partitions[i]), strconv.Itoa(i))
		}
	}
	for _, c := range r.database.Consumers {
		for _, m := range ofConsumer {
			if c.Elsewhere && (m.Desc == deadLetters || m.Desc == paused) {
				continue
			}
			tell(m.Desc, m.value(c), c.Name)
		}
		lag := make([]int64, len(r.database.Partitions))
		for _, p := range c.Behind {
			lag[p.Partition] = p.Lag
		}
		for i, records := range lag {
			tell(partitionLag, float64(records), c.Name, strconv.Itoa(i))
		}
	}
}

func (s *statusCollector) recent() reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.read) < statusAge {
		return s.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), statusTimeout)
	defer cancel()
	// At the same time: one that is silent takes nothing from the other's.
	known := 1
	if s.last.database != nil {
		known = len(s.last.database.Partitions)
	}
	s.last = reading{}
	var asked sync.WaitGroup
	asked.Go(func() {
		if read, err := status.Read(ctx, s.db, s.schema, nil); err == nil && !read.ReadOnly {
			s.last.database = read
		}
	})
	asked.Go(func() {
		if heads, err := status.Heads(ctx, s.log, known); err == nil {
			s.last.heads = heads
		}
	})
	asked.Wait()
	if s.last.database != nil {
		s.addElsewhere(ctx)
	}
	s.read = time.Now()
	return s.last
}

// addElsewhere adds the consumers that report through the log, if that answers, to those
// that the database knows.
func (s *statusCollector) addElsewhere(ctx context.Context) {
	var log unilog.Log
	if s.last.heads != nil {
		log = s.log
	}
	database := s.last.database
	known := slices.DeleteFunc(database.Consumers, func(c status.Consumer) bool { return c.Elsewhere })
	found, _ := status.Elsewhere(ctx, s.db, s.schema, log, known)
	database.Consumers = append(known, found...)
}
