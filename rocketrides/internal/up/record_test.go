package up

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/lmittmann/tint"
)

// coloured and plain are how a process might log for people.
func coloured(w io.Writer) slog.Handler {
	return tint.NewTextHandler(w, &tint.Options{TimeFormat: "15:04:05.000"})
}

func plain(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) }

// TestRendered sees that a record looks as if its process had logged it as text.
func TestRendered(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]func(io.Writer) slog.Handler{"coloured": coloured, "plain": plain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var screen, want bytes.Buffer
			out := newOutput(&screen, false, []string{"p"})
			out.text = text
			p := out.from("p")
			asJSON, asText := slog.NewJSONHandler(p, nil), text(&want)
			for i, args := range [][]any{
				nil,
				{"n", 1, "big", int64(1) << 62, "huge", uint64(1) << 63, "f", 0.25, "whole", 3.0, "yes", true, "nothing", nil},
				{"empty", "", "words", "a b", "quote", `"`, "equals", "a=b", "line", "a\nb\t\x1b[0m", "path", "/a/<b>&c", "é", "ü\u2028"},
				{slog.Group("g", "a", 1, slog.Group("h", "b", "x y")), "after", "z"},
				{"time", "noon", "level", "high", "msg", "twice", "msg", "thrice"},
				{"list", []string{"a", "b"}, "err", errors.New("down at\tonce")},
			} {
				for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelWarn + 2} {
					r := slog.NewRecord(time.Now(), level, fmt.Sprintf("message %d: \"said\"", i), 0)
					r.Add(args...)
					for _, h := range []slog.Handler{asJSON, asText} {
						if err := h.Handle(t.Context(), r); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			got, wanted := strings.Split(screen.String(), "\n"), strings.Split(want.String(), "\n")
			if len(got) != len(wanted) {
				t.Fatalf("%d lines, want %d", len(got), len(wanted))
			}
			for i := range got {
				if strings.TrimPrefix(got[i], "p | ") != wanted[i] {
					t.Errorf("got  %q\nwant %q", got[i], wanted[i])
				}
			}
		})
	}
}

// TestNoRecord sees that what is broken, or something else, passes as it came.
func TestNoRecord(t *testing.T) {
	t.Parallel()
	const whole = `{"time":"2026-01-02T03:04:05.678Z","level":"INFO","msg":"m","a":{"b":[1,2]},"c":"d"}`
	lines := []string{
		"Response: status=201", "", "{}", whole + "x", whole + whole,
		strings.Replace(whole, "INFO", "LOUD", 1), strings.Replace(whole, "2026", "soon", 1),
		strings.Replace(whole, `"INFO"`, "1", 1), strings.Replace(whole, "msg", "message", 1),
		`{"time":"` + strings.Repeat("x", 3*maxLine),
	}
	for i := range len(whole) {
		lines = append(lines, whole[:i])
	}
	var screen bytes.Buffer
	out := newOutput(&screen, false, nil)
	out.text = plain
	out.heard = func(_ string, r *record) { t.Errorf("heard %q", r.msg) }
	p := out.from("p")
	for _, line := range lines {
		if _, err := io.WriteString(p, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Split(screen.String(), "\n")
	for i, line := range lines {
		if got[i] != "p | "+line {
			t.Errorf("%q became %q", line, got[i])
		}
	}
}

// TestHeard sees that records are heard and, of some importance, shown.
func TestHeard(t *testing.T) {
	t.Parallel()
	var screen bytes.Buffer
	out := newOutput(&screen, false, nil)
	out.level = slog.LevelWarn
	var heard []string
	out.heard = func(source string, r *record) {
		if !json.Valid(r.members) {
			t.Errorf("no JSON: %s", r.members)
		}
		heard = append(heard, source+" "+r.msg+" "+string(r.members))
	}
	log := slog.New(slog.NewJSONHandler(out.from("p"), nil))
	log.Info("quiet")
	log.Warn("loud", "n", 1, "who", "me")
	if got := strings.Join(heard, "; "); got != `p quiet {}; p loud {"n":1,"who":"me"}` {
		t.Errorf("heard %s", got)
	}
	if got := screen.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `p | {"time":`) || !strings.Contains(got, "loud") {
		t.Errorf("shown:\n%s", got)
	}
}

func BenchmarkShow(b *testing.B) {
	out := newOutput(io.Discard, false, nil)
	out.text = coloured
	p := out.from("p")
	line := []byte(`{"time":"2026-01-02T03:04:05.678Z","level":"INFO","msg":"consumed","offset":1,"distance":"93.66m","total_distance":"93.66m"}` + "\n")
	for b.Loop() {
		_, _ = p.Write(line)
	}
}
