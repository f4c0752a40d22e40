package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fake lives for a time and dies.
type fake struct {
	done chan struct{}
	err  error
}

func (f *fake) Done() <-chan struct{}      { return f.done }
func (f *fake) Err() error                 { return f.err }
func (f *fake) Stop(context.Context) error { return nil }
func (f *fake) Signal(os.Signal) error     { return nil }
func (f *fake) Pid() int                   { return 1 }

func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// The seventh lives long enough to be forgiven; the ninth doesn't start.
		lives := []time.Duration{0, 0, time.Second, 0, 0, 0, steady, 0}
		var said []string
		i, all := 0, make(chan struct{})
		task := &task{
			name:   "p",
			report: func(string, string) {},
			say:    func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
			start: func(ctx context.Context) (runner, error) {
				i++
				if i == len(lives)+1 {
					return nil, errors.New("cannot start")
				}
				f := &fake{done: make(chan struct{})}
				if i > len(lives) {
					close(all)
					return f, nil
				}
				life := lives[i-1]
				go func() {
					time.Sleep(life)
					close(f.done)
				}()
				return f, nil
			},
		}
		task.keep(nil)
		<-all
		if err := task.stop(t.Context()); err != nil {
			t.Error(err)
		}
		var want []string
		for _, delay := range []string{"100ms", "200ms", "400ms", "800ms", "1.6s", "3.2s", "100ms", "200ms"} {
			want = append(want, "p died (exit status 0), starting it again in "+delay)
		}
		want = append(want, "p died (cannot start), starting it again in 400ms")
		if !slices.Equal(said, want) {
			t.Errorf("said %q", said)
		}
	})
}

func TestBackoffLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var last string
		starts, enough := 0, make(chan struct{})
		task := &task{
			name:   "p",
			report: func(string, string) {},
			say:    func(_ string, args ...any) { last = fmt.Sprint(args[len(args)-1]) },
			start: func(context.Context) (runner, error) {
				if starts++; starts == 12 {
					close(enough)
				}
				return nil, errors.New("no")
			},
		}
		task.keep(nil)
		<-enough
		synctest.Wait()
		// In the middle of a wait: stop does not sit it out.
		began := time.Now()
		if err := task.stop(t.Context()); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("stop took %v", d)
		}
		if last != maxDelay.String() {
			t.Errorf("the last delay was %s", last)
		}
	})
}
