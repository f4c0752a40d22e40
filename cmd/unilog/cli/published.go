package cli

import (
	"log/slog"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
)

// reportPause is the least time between two lines about a partition.
const reportPause = time.Second

// published logs what is published for the first time, and of which partition, if there
// are several: the first batch at once, and what follows within a second in one line.
type published struct {
	log   *slog.Logger
	mu    sync.Mutex
	spans map[int]*span // by partition
}

// span is what a partition's next line is about.
type span struct {
	records     int64
	first, last int64 // of those to report; last is of those that were, if there are none
	waits       bool  // a line was written within the pause
}

// add takes what was published of one partition: its offsets have no gap.
func (p *published) add(entries []unilog.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	partition := entries[0].Partition
	s := p.spans[partition]
	if s == nil {
		s = new(span)
		p.spans[partition] = s
	}
	first, last := max(entries[0].Offset, s.last+1), entries[len(entries)-1].Offset
	if first <= last { // or it was all sent again
		if s.records == 0 {
			s.first = first
		}
		s.records += last - first + 1
		s.last = last
	}
	if !s.waits {
		p.write(partition, s)
	}
}

// write writes the line of a partition, if there is something to say, and the next one no
// sooner than after the pause. The mutex is held.
func (p *published) write(partition int, s *span) {
	if s.waits = s.records > 0; !s.waits {
		return
	}
	what := []any{"records", s.records, "first", s.first, "last", s.last}
	if len(p.spans) > 1 || partition > 0 {
		what = append(what, "partition", partition)
	}
	p.log.Info("published", what...)
	s.records = 0
	time.AfterFunc(reportPause, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.write(partition, s)
	})
}

// rest writes what was not yet said.
func (p *published) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, s := range p.spans {
		p.write(partition, s)
	}
}
