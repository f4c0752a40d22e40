package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// wantReady sees that a process is ready, or says in one line why not.
func wantReady(w *world.World, ready func() error, reason string) {
	w.Helper()
	err := ready()
	if reason == "" {
		if err != nil {
			w.Errorf("not ready: %v", err)
		}
	} else if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
		w.Errorf("Ready says %v, want one line with %q", err, reason)
	}
}

func TestStreamerIsReady(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var crash error
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error { return crash }
	})
	wantReady(w, s.Ready, "has not looked yet")
	w.Drain(s)
	wantReady(w, s.Ready, "")

	standby := w.Streamer()
	if _, err := standby.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrStandby) {
		t.Fatalf("the second streamer: %v", err)
	}
	wantReady(w, standby.Ready, "")

	crash = unilog.ErrSimulated
	w.Commit("1")
	if _, err := s.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	wantReady(w, s.Ready, "")

	s.Close()
	crash = nil
	w.Memory.SetLogID(0, "another")
	if err := w.EndOf(w.Ctx, s.Run); err == nil {
		t.Fatal("it runs with another database's log")
	}
	wantReady(w, s.Ready, "belongs to another database")
	var foreign *unilog.ForeignLogError
	if !errors.As(s.Ready(), &foreign) {
		t.Errorf("the reason is %T", s.Ready())
	}
	w.Wipe()
	w.Drain(s)
	wantReady(w, s.Ready, "")
}

func TestConsumerIsReady(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	poisoned, crash := false, error(nil)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if poisoned {
				return fmt.Errorf("poison\nand more: %w", context.Canceled) // of its own
			}
			return add(ctx, tx, entries)
		}
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error { return crash }
	})
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	wantReady(w, c.Ready, "has not looked yet")
	w.Consume(c)
	wantReady(w, c.Ready, "")

	w.Commit("2")
	w.Drain(s)
	crash = unilog.ErrSimulated
	if _, err := c.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	wantReady(w, c.Ready, "")

	crash, poisoned = nil, true
	if err := w.EndOf(w.Ctx, c.Run); err == nil {
		t.Fatal("it applied poison")
	}
	wantReady(w, c.Ready, "halts at offset 2 of partition 0: its handler rejected the record: poison and more")
	poisoned = false
	w.Consume(c)
	wantReady(w, c.Ready, "")

	w.Exec(`UPDATE checkpoints SET "offset" = 9`)
	c.Reread()
	if err := w.EndOf(w.Ctx, c.Run); err == nil {
		t.Fatal("it is ahead of its source")
	}
	wantReady(w, c.Ready, "is 9 but its source is only at 2")
	w.Exec(`UPDATE checkpoints SET "offset" = 2`)
	w.Consume(c)
	wantReady(w, c.Ready, "")

	alone := w.Consumer("alone", func(cfg *consumer.Config) { cfg.Archive = nil })
	w.Must(w.Memory.Trim(w.Ctx, 0, 1))
	if err := w.EndOf(w.Ctx, alone.Run); err == nil {
		t.Fatal("it passed over a gap")
	}
	wantReady(w, alone.Ready, "cannot have offsets 1 to 1")
	w.Exec(`DELETE FROM checkpoints WHERE name = 'alone'`)
}

// What passes is over with the next success.
func TestReadyThroughFaults(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"Postgres", "Redis"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			n := world.SetupNetwork(t)
			s, c := n.FarStreamer(), n.FarConsumer("sum")
			n.Commit("1")
			n.Drain(s)
			n.Consume(c)
			wantReady(n.World, s.Ready, "")
			wantReady(n.World, c.Ready, "")

			n.Proxy(server).Refuse(true)
			n.Proxy(server).Cut()
			n.Commit("1")
			reason := map[string]string{"Postgres": "connect to", "Redis": "the log"}[server]
			fails := func(f world.Once, ready func() error) {
				await.That(t, "the loss of "+server+" to be noticed", func() string {
					_, err := f(n.Ctx)
					if err != nil && strings.Contains(err.Error(), reason) {
						return ""
					}
					return fmt.Sprint(err)
				})
				wantReady(n.World, ready, reason)
			}
			fails(s.RunOnce, s.Ready)
			fails(c.RunQuiet, c.Ready)

			n.Proxy(server).Refuse(false)
			n.Insist(s.RunOnce, func() {})
			n.Insist(c.RunOnce, func() {})
			wantReady(n.World, s.Ready, "")
			wantReady(n.World, c.Ready, "")
			s.Close()
			n.Check(2)
		})
	}
}

// TestReadyIsConcurrent is for the race detector.
func TestReadyIsConcurrent(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.AwaitThat("the streamer to be ready", func() bool { return s.Ready() == nil })
	stop()
	w.Must(await.Receive(t, "the streamer to end", ended))
}
