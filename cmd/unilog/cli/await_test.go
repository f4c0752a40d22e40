package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhatAProcessWaitsFor has a server that is not up, and one that loses connections.
func TestWhatAProcessWaitsFor(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	lost := fmt.Errorf("look: %w", io.ErrUnexpectedEOF)
	for name, c := range map[string]struct {
		of    func(since time.Duration) error
		want  error
		after time.Duration // at least, if not at once
	}{
		"another error": {func(time.Duration) error { return io.ErrShortWrite }, io.ErrShortWrite, 0},
		"not up for an hour": {func(since time.Duration) error {
			if since < time.Hour {
				return refused
			}
			return nil
		}, nil, time.Hour},
		"lost for a while": {func(since time.Duration) error {
			if since < lossesMost/2 {
				return lost
			}
			return nil
		}, nil, lossesMost / 2},
		"always lost": {func(time.Duration) error { return lost }, lost, lossesMost},
		"not up, and lost from then on": {func(since time.Duration) error {
			if since < time.Hour {
				return refused
			}
			return lost
		}, lost, time.Hour + lossesMost/2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := new(AdminFlags).AwaitServer(t.Context(), slog.New(slog.DiscardHandler), func(context.Context) error { return c.of(time.Since(began)) })
				if took := time.Since(began); err != c.want || took < c.after || took > c.after+2*lossesMost {
					t.Errorf("it returned %v after %v, want %v after %v", err, took, c.want, c.after)
				}
			})
		})
	}
}
