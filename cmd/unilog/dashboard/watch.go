package dashboard

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/status"
)

const (
	// samplePause is the time between samples while somebody looks, idlePause while
	// nobody does: the history needs one a second.
	samplePause = 250 * time.Millisecond
	idlePause   = time.Second
)

// watcher samples, and has what it needs to know for that. It is not safe for
// concurrent use.
type watcher struct {
	*Dashboard
	last    *sample // nil until Postgres has been read
	down    map[string]bool
	latency latencies
	story   story
	audits  audits

	elsewhere elsewhere
	looks     []*status.Status // the oldest first, for the pace of consumers
}

// watch takes samples and audits until ctx ends, and tells of what they and `up`
// say. Samples are taken when the clock shows a whole period, so that the history
// has one for each second.
func (d *Dashboard) watch(ctx context.Context) {
	w := &watcher{Dashboard: d, down: map[string]bool{}}
	w.story = newStory(d.hub.note)
	w.story.words = d.words
	w.audits.done = make(chan audited, 1)
	defer w.audits.end()
	for {
		period := idlePause
		if d.hub.watched() {
			period = samplePause
		}
		select {
		case <-ctx.Done():
			return
		case e := <-d.heard:
			w.story.hear(e, now())
		case a := <-w.audits.done:
			w.audits.over(a)
			d.hub.audited(&w.audits.last)
			w.story.audited(&w.audits.last)
		case <-d.hub.arrived: // the period has changed
		case <-time.After(time.Until(nextLook(time.Now(), period))):
			if w.look(ctx); ctx.Err() == nil {
				w.audit(ctx, period)
			}
		}
	}
}

// nextLook is when the clock shows a whole period again.
func nextLook(at time.Time, period time.Duration) time.Time { return at.Truncate(period).Add(period) }

func now() int64 { return time.Now().UnixMilli() }

// look takes one sample. Neither server waits for the other.
func (w *watcher) look(ctx context.Context) {
	s := sample{Time: now()}
	if w.last != nil {
		s = *w.last
		s.Time = now()
	}
	next := s
	var redis error
	var head int64
	var group errgroup.Group
	group.Go(func() error { head, redis = w.readRedis(ctx, s.Partitions); return nil })
	postgres := w.readPostgres(ctx, &next)
	_ = group.Wait()
	if postgres == nil && redis == nil && head < next.Published {
		// It may have been read before the database was: then it lacks nothing.
		head, redis = w.readRedis(ctx, next.Partitions)
	}
	if ctx.Err() != nil {
		return
	}
	if postgres == nil {
		w.latency.take(&next)
		w.readElsewhere(ctx, &next, redis == nil)
		w.timed(&next)
		s = next
	}
	if s.Engine = w.cfg.engine(); redis != nil {
		redis = said(s.Engine, redis)
	}
	if s.Redis = w.state("log", redis); redis == nil {
		s.Head = &head
	}
	if s.Postgres = w.state("Postgres", postgres); postgres != nil && w.last == nil {
		w.story.server(s.Time, "postgres", s.Postgres) // there are no figures yet
		return
	}
	w.hub.sample(&s)
	w.story.sampled(&s, now())
	w.last = &s
}

// state returns what a sample says of a server, and logs where that changes.
func (w *watcher) state(server string, err error) string {
	switch was := w.down[server]; {
	case err != nil && !was:
		w.cfg.Logger.Warn("a server cannot be read: trying again", "server", server, "err", err)
	case err == nil && was:
		w.cfg.Logger.Info("a server can be read again", "server", server)
	}
	w.down[server] = err != nil
	if err == nil {
		return ""
	}
	return err.Error()
}
