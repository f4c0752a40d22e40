package streamer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rocketrides/unilog"
)

// awake makes a call to the log, and shows Postgres meanwhile that the leader is
// alive: a log that is slow is no reason for another streamer to lead. The call
// ends when the session does. What fails by the log is a [unilog.LogError]; the loss of the
// session is none.
func (l *leadership) awake(ctx context.Context, what string, call func(context.Context) error) error {
	if time.Since(l.seen) > l.silence/4 { // many short calls are a long one
		if err := l.show(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lost error
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(l.silence / 4)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			if lost = l.show(ctx); lost != nil {
				cancel()
				return
			}
		}
	}()
	err := call(ctx)
	close(over)
	<-ended
	switch {
	case err == nil:
		return nil
	case lost != nil && errors.Is(err, context.Canceled):
		return fmt.Errorf("%w: %w", lost, err)
	}
	return &unilog.LogError{Call: what, Err: err}
}

// show shows Postgres that the leader is alive.
func (l *leadership) show(ctx context.Context) error {
	if !l.busy.TryLock() {
		return nil // Postgres is at work for it
	}
	defer l.busy.Unlock()
	if err := l.conn.Ping(ctx); err != nil {
		return fmt.Errorf("keep the lead: %w", err)
	}
	l.seen = time.Now()
	return nil
}
