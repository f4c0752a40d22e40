package cli

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestProgressOfLongWork lets half a minute pass.
func TestProgressOfLongWork(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		tty, logs bool
		want      []string
		lines     int
	}{
		"a terminal": {tty: true, want: []string{"\r\x1b[Kverifying: for 2s so far\r", "for 25s so far"}},
		"a file":     {want: []string{"verifying: for 10s so far\nverifying: for 20s so far\n"}, lines: 2},
		"a log":      {logs: true, want: []string{`msg="verifying: for 10s so far"`}, lines: 2},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out said
				var log *slog.Logger
				if c.logs {
					log = slog.New(slog.NewTextHandler(&out, nil))
				}
				p := newProgress(log, "verifying")
				p.out, p.tty = &out, c.tty
				end := p.beside(t.Context())
				time.Sleep(500 * time.Millisecond)
				synctest.Wait()
				if said := out.String(); said != "" {
					t.Errorf("of short work it says %q", said)
				}
				time.Sleep(25 * time.Second)
				end()
				said := out.String()
				for _, want := range c.want {
					if !strings.Contains(said, want) {
						t.Errorf("it says %q, which lacks %q", said, want)
					}
				}
				if n := strings.Count(said, "\n"); n != c.lines {
					t.Errorf("it says %d lines, want %d", n, c.lines)
				}
				if c.tty && !strings.HasSuffix(said, "\r\x1b[K") {
					t.Errorf("the line stays: %q", said[max(0, len(said)-40):])
				}
			})
		})
	}
}
