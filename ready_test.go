package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

// wantReady sees that a process is ready, or says in one line why not.
func wantReady(w *world, ready func() error, reason string) {
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
	w := setup(t)
	var crash error
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error { return crash }
	})
	wantReady(w, s.Ready, "has not looked yet")
	w.drain(s)
	wantReady(w, s.Ready, "")

	standby := w.streamer()
	if _, err := standby.RunOnce(w.ctx); !errors.Is(err, unilog.ErrStandby) {
		t.Fatalf("the second streamer: %v", err)
	}
	wantReady(w, standby.Ready, "")

	crash = unilog.ErrSimulated
	w.commit("1")
	if _, err := s.RunOnce(w.ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	wantReady(w, s.Ready, "")

	s.Close()
	crash = nil
	w.command("HSET", "{"+w.stream+"}:leader", "log_id", "another")
	if err := w.endOf(w.ctx, s.Run); err == nil {
		t.Fatal("it runs with another database's log")
	}
	wantReady(w, s.Ready, "belongs to another database")
	var foreign *unilog.ForeignLogError
	if !errors.As(s.Ready(), &foreign) {
		t.Errorf("the reason is %T", s.Ready())
	}
	w.wipe()
	w.drain(s)
	wantReady(w, s.Ready, "")
}

func TestConsumerIsReady(t *testing.T) {
	t.Parallel()
	w := setup(t)
	poisoned, crash := false, error(nil)
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if poisoned {
				return fmt.Errorf("poison\nand more: %w", context.Canceled) // of its own
			}
			return add(ctx, tx, entries)
		}
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error { return crash }
	})
	s := w.streamer()
	w.commit("1")
	w.drain(s)
	wantReady(w, c.Ready, "has not looked yet")
	w.consume(c)
	wantReady(w, c.Ready, "")

	w.commit("2")
	w.drain(s)
	crash = unilog.ErrSimulated
	if _, err := c.RunOnce(w.ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	wantReady(w, c.Ready, "")

	crash, poisoned = nil, true
	if err := w.endOf(w.ctx, c.Run); err == nil {
		t.Fatal("it applied poison")
	}
	wantReady(w, c.Ready, "halts at offset 2 of partition 0: its handler rejected the record: poison and more")
	poisoned = false
	w.consume(c)
	wantReady(w, c.Ready, "")

	w.exec(`UPDATE checkpoints SET "offset" = 9`)
	c.Reread()
	if err := w.endOf(w.ctx, c.Run); err == nil {
		t.Fatal("it is ahead of its source")
	}
	wantReady(w, c.Ready, "is 9 but its source is only at 2")
	w.exec(`UPDATE checkpoints SET "offset" = 2`)
	w.consume(c)
	wantReady(w, c.Ready, "")

	alone := w.consumer("alone", func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil })
	w.command("XTRIM", w.stream, "MAXLEN", "1")
	if err := w.endOf(w.ctx, alone.Run); err == nil {
		t.Fatal("it passed over a gap")
	}
	wantReady(w, alone.Ready, "cannot have offsets 1 to 1")
	w.exec(`DELETE FROM checkpoints WHERE name = 'alone'`)
}

// What passes is over with the next success.
func TestReadyThroughFaults(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"Postgres", "Redis"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			n := setupNetwork(t)
			s, c := n.farStreamer(), n.farConsumer("sum")
			n.commit("1")
			n.drain(s)
			n.consume(c)
			wantReady(n.world, s.Ready, "")
			wantReady(n.world, c.Ready, "")

			n.proxy(server).Refuse(true)
			n.proxy(server).Cut()
			n.commit("1")
			reason := map[string]string{"Postgres": "connect to", "Redis": "the log"}[server]
			fails := func(f once, ready func() error) {
				await.That(t, "the loss of "+server+" to be noticed", func() string {
					_, err := f(n.ctx)
					if err != nil && strings.Contains(err.Error(), reason) {
						return ""
					}
					return fmt.Sprint(err)
				})
				wantReady(n.world, ready, reason)
			}
			fails(s.RunOnce, s.Ready)
			fails(c.RunQuiet, c.Ready)

			n.proxy(server).Refuse(false)
			n.insist(s.RunOnce, func() {})
			n.insist(c.RunOnce, func() {})
			wantReady(n.world, s.Ready, "")
			wantReady(n.world, c.Ready, "")
			s.Close()
			n.check(2)
		})
	}
}

// TestReadyIsConcurrent is for the race detector.
func TestReadyIsConcurrent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.awaitThat("the streamer to be ready", func() bool { return s.Ready() == nil })
	stop()
	w.must(await.Receive(t, "the streamer to end", ended))
}
