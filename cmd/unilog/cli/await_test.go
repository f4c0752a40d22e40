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

	"github.com/jackc/pgx/v5/pgconn"
)

// TestWhatAProcessWaitsFor has a server that is not up, and one that loses connections.
func TestWhatAProcessWaitsFor(t *testing.T) {
	t.Parallel()
	refused := fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED})
	lost := fmt.Errorf("look: %w", io.ErrUnexpectedEOF)
	ofPooler := func(message string) error { return &pgconn.PgError{Severity: "FATAL", Code: "08P01", Message: message} }
	behind := ofPooler("server login has been failing, cached error: connect failed (server_login_retry)")
	misses, crashed, ended := ofPooler(`no such database: "x"`), ofPooler("server conn crashed?"), ofPooler("invalid server parameter")
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
		"always lost":               {func(time.Duration) error { return lost }, lost, lossesMost},
		"not up behind a pooler":    {func(time.Duration) error { return behind }, behind, lossesMost},
		"a pooler that refuses":     {func(time.Duration) error { return misses }, misses, 0},
		"lost behind a pooler":      {func(time.Duration) error { return crashed }, crashed, lossesMost},
		"ended while it was set up": {func(time.Duration) error { return ended }, ended, lossesMost},
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
