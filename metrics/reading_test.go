package metrics_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/metrics"
)

// asked is a database and a log that count how often they are asked, and can be
// silent.
type asked struct {
	unilog.Log
	database, log atomic.Int64
	silent        bool
}

var errNoAnswer = errors.New("no answer")

func (a *asked) Begin(ctx context.Context) (pgx.Tx, error) {
	a.database.Add(1)
	return nil, a.answer(ctx)
}

func (a *asked) Head(ctx context.Context, _ int) (unilog.Head, error) {
	a.log.Add(1)
	return unilog.Head{}, a.answer(ctx)
}

func (a *asked) answer(ctx context.Context) error {
	if a.silent {
		<-ctx.Done()
	}
	return errNoAnswer
}

// TestStatusIsReadOnceASecond goes by a clock of its own, which stands still while
// anybody is at work.
func TestStatusIsReadOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := new(asked)
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics.Status(servers, servers))
		for second := range int64(3) {
			for _, wait := range []time.Duration{0, time.Second - 1} {
				time.Sleep(wait)
				var scrapes sync.WaitGroup
				for range 20 {
					scrapes.Go(func() {
						if _, err := reg.Gather(); err != nil {
							t.Error(err)
						}
					})
				}
				scrapes.Wait()
				if d, l := servers.database.Load(), servers.log.Load(); d != second+1 || l != second+1 {
					t.Errorf("%v after second %d: the database was read %d times and the log %d times", wait, second, d, l)
				}
			}
			time.Sleep(time.Nanosecond)
		}
	})
}

func TestStatusIsReadForThreeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		servers := &asked{silent: true}
		reg := prometheus.NewRegistry()
		reg.MustRegister(metrics.Status(servers, servers))
		began := time.Now()
		if _, err := reg.Gather(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("it gave up after %v, want 3s", took)
		}
	})
}
