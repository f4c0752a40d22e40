package unilog

import (
	"context"
	"fmt"
	"time"
)

// awake makes a call to the log, and shows Postgres meanwhile that the leader is
// alive: a log that is slow is no reason for another streamer to lead. The call
// ends when the session does.
func (l *leadership) awake(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
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
			if err := l.conn.Ping(ctx); err != nil {
				cancel(fmt.Errorf("keep the lead: %w", err))
				return
			}
		}
	}()
	err := call(ctx)
	close(over)
	<-ended
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}
