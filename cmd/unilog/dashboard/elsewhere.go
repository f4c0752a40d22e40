package dashboard

import (
	"context"
	"slices"
	"time"

	"github.com/rocketrides/unilog/status"
)

const (
	// elsewherePause is the time between two looks at what consumers elsewhere report.
	elsewherePause = 5 * time.Second
	// paceSpan is the time that a consumer's pace is a mean over, and more than that
	// between two of its reports.
	paceSpan = 12 * time.Second
)

// elsewhere are the consumers that report through the log, as last read.
type elsewhere struct {
	found []status.Consumer
	read  time.Time
}

// readElsewhere adds them to a sample, and asks the log for them from time to time, if it
// answers.
func (w *watcher) readElsewhere(ctx context.Context, s *sample, logAnswers bool) {
	if e := &w.elsewhere; logAnswers && time.Since(e.read) >= elsewherePause {
		ctx, cancel := context.WithTimeout(ctx, w.callFor)
		defer cancel()
		found, err := status.Elsewhere(ctx, w.cfg.DB, w.cfg.Schema, w.cfg.Log, nil)
		if err != nil {
			w.cfg.Logger.Debug("reports of consumers elsewhere cannot be read", "err", err)
		}
		if found != nil || err == nil {
			e.found = found
		}
		e.read = time.Now()
	}
	for _, c := range w.elsewhere.found {
		if slices.ContainsFunc(s.Consumers, func(o consumerFigure) bool { return o.Name == c.Name }) {
			continue // its checkpoints say more
		}
		s.Consumers = append(s.Consumers, consumerFigure{
			Name: c.Name, Elsewhere: true, Checkpoint: c.Checkpoint, Lag: c.Lag, LagSeconds: c.LagSeconds,
			Silent: c.Silent + time.Since(w.elsewhere.read).Seconds(),
		})
	}
}

// timed gives each consumer that is far behind its pace.
func (w *watcher) timed(s *sample) {
	now := &status.Status{Time: time.UnixMilli(s.Time), Numbered: s.Numbered}
	for _, c := range s.Consumers {
		now.Consumers = append(now.Consumers, status.Consumer{Name: c.Name, Elsewhere: c.Elsewhere, Checkpoint: c.Checkpoint, Lag: c.Lag, Silent: c.Silent})
	}
	w.looks = slices.DeleteFunc(append(w.looks, now), func(l *status.Status) bool { return now.Time.Sub(l.Time) > paceSpan })
	now.Since(w.looks[0])
	for i := range s.Consumers {
		if c := &now.Consumers[i]; c.Pace != nil {
			s.Consumers[i].Pace = c.Pace.String()
		}
	}
}
