package dashboard

import (
	"slices"
	"time"
)

const (
	latencyWindow = 10 * time.Second
	latencyMost   = 4096 // measurements in the window
)

// latencies are those of the records at the consumers' checkpoints, measured
// when a checkpoint has moved.
type latencies struct {
	checkpoints map[string]int64
	window      []measurement // oldest first
}

type measurement struct {
	consumer string
	at       int64
	ms       float64
}

// take measures from a reading, and puts what is known of the last seconds into it.
func (l *latencies) take(s *sample) {
	last := map[string]*float64{}
	checkpoints := map[string]int64{}
	for i := range s.Consumers {
		c := &s.Consumers[i]
		before, known := l.checkpoints[c.Name]
		if known && c.Checkpoint > before && c.Latency != nil {
			l.window = append(l.window, measurement{c.Name, s.Time, max(0, *c.Latency)})
		}
		checkpoints[c.Name] = c.Checkpoint
	}
	l.checkpoints = checkpoints
	first := max(0, len(l.window)-latencyMost)
	for first < len(l.window) && l.window[first].at <= s.Time-latencyWindow.Milliseconds() {
		first++
	}
	l.window = slices.Delete(l.window, 0, first)
	all := make([]float64, len(l.window))
	for i := range l.window {
		m := &l.window[i]
		all[i] = m.ms
		last[m.consumer] = &m.ms
	}
	for i := range s.Consumers {
		s.Consumers[i].Latency = nil
		if ms := last[s.Consumers[i].Name]; ms != nil {
			value := *ms
			s.Consumers[i].Latency = &value
		}
	}
	s.Latency = nil
	if len(all) > 0 {
		slices.Sort(all)
		s.Latency = &latencyFigure{P50: percentile(all, 50), P99: percentile(all, 99)}
	}
}

// percentile of sorted values: the smallest that p of a hundred do not exceed.
func percentile(sorted []float64, p int) float64 {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
