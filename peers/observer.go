package main

import (
	"context"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// observer notes when records first are in the stream, as a consumer that waits there
// sees it.
type observer struct {
	redis  rueidis.Client
	cancel context.CancelFunc
	done   chan struct{}

	mu sync.Mutex
	at map[int]time.Time
}

// observe begins with what comes next.
func (w *world) observe(ctx context.Context) (*observer, error) {
	redis, err := w.connectRedis()
	if err != nil {
		return nil, err
	}
	last := "0"
	entries, err := redis.Do(ctx, redis.B().Xrevrange().Key(w.stream()).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil {
		redis.Close()
		return nil, err
	}
	if len(entries) > 0 {
		last = entries[0].ID
	}
	ctx, cancel := context.WithCancel(ctx)
	o := &observer{redis: redis, cancel: cancel, done: make(chan struct{}), at: map[int]time.Time{}}
	go o.run(ctx, w.stream(), last)
	return o, nil
}

func (o *observer) run(ctx context.Context, stream, last string) {
	defer close(o.done)
	for ctx.Err() == nil {
		streams, err := o.redis.Do(ctx, o.redis.B().Xread().Count(readAtOnce).Block(100).Streams().Key(stream).Id(last).Build()).AsXRead()
		now := time.Now()
		if err != nil {
			continue // nothing has come
		}
		o.mu.Lock()
		for _, e := range streams[stream] {
			last = e.ID
			if id, err := idOf(e); err == nil && o.at[id].IsZero() {
				o.at[id] = now
			}
		}
		o.mu.Unlock()
	}
}

func (o *observer) stop() {
	o.cancel()
	<-o.done
	o.redis.Close()
}

// count says how many of these have arrived.
func (o *observer) count(ids map[int]time.Time) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range ids {
		if !o.at[id].IsZero() {
			n++
		}
	}
	return n
}

// waits are how long records took from their commits on. What has not arrived is left
// out.
func (o *observer) waits(committed map[int]time.Time) (waits []time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id, at := range committed {
		if arrived := o.at[id]; !arrived.IsZero() {
			waits = append(waits, max(0, arrived.Sub(at)))
		}
	}
	return waits
}
