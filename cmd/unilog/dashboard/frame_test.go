package dashboard

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	"golang.org/x/term"
)

// noon is when the scenes of these tests begin.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.Local)

var rides = (&Config{Audit: ridesAudit, Words: ridesWords, Program: "rocketrides"}).phrases()

// sceneOf is one of so many records, the last second of which is known, and of
// some consumers, who wait for a tenth of them.
func sceneOf(booked int64, consumers int) *scene {
	v := &scene{words: rides, now: noon.Add(time.Second)}
	for i := range int64(2) {
		head, latency := booked-12, 4.0
		s := &sample{
			Time: noon.UnixMilli() + 1000*i, Staged: 5, StagedFor: 0.02, Numbered: booked - 5 + 38*(i-1), Published: head, Head: &head, Epoch: 7,
			Leader: &leader{PID: 4711, Seconds: 62}, Latency: &latencyFigure{P50: 4, P99: 31},
		}
		a := &auditFigure{Time: noon.UnixMilli(), Since: noon.Add(-time.Minute).UnixMilli(), Truth: fmt.Sprintf("%d.25", booked), Count: &booked, Agrees: true, Checks: 61}
		for c := range consumers {
			name := fmt.Sprintf("consumer%d", c)
			s.Consumers = append(s.Consumers, consumerFigure{
				Name: name, Checkpoint: booked*9/10 + 25*(i-1), Lag: booked / 10, LagSeconds: 1.5, Latency: &latency,
			})
			a.Balances = append(a.Balances, balance{
				Consumer: name, Total: fmt.Sprint(booked * 9 / 10), Ahead: fmt.Sprint(booked / 10), Staged: "5.25", Parked: "0", Difference: "0", Agrees: true,
			})
		}
		v.sampled(s)
		v.audited(a)
	}
	v.noted(note{Time: noon.UnixMilli(), Kind: "leader", Text: "The lead has changed: session 4711 leads, in epoch 7."})
	return v
}

// seen is a frame without its colours.
func seen(v *scene, width, height int) string {
	return ansi.Strip(strings.Join(v.lines(width, height), "\n"))
}

// shows sees that a frame has all of the words, each in one line.
func shows(t *testing.T, frame string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(strings.Join(strings.Fields(frame), " "), w) {
			t.Errorf("the frame does not say %q:\n%s", w, frame)
		}
	}
}

func TestFrame(t *testing.T) {
	t.Parallel()
	v := sceneOf(1_234_560, 2)
	for _, width := range []int{80, 120, 200} {
		shows(t, seen(v, width, 24),
			"half of them at their consumers within 4 ms.",
			"All is well: 38 rides a second", "booked 1,234,560 38", "staged 1,234,560 38 5 20 ms", "numbered 1,234,555 38 7", "published 1,234,548 0.0 0",
			"consumer0 1,111,104 25 123,456 1.5 s 4 ms █", "latency p50 4 ms p99 31 ms", "epoch 7, session 4711 leads for 1m2s",
			"AUDIT = EQUAL since 11:59:00, for 1m0s", "checks: 61", "booked 1,234,560.25",
			"= consumer1 1,111,104.00 123,456.00 5.25", "12:00:00 ▲ The lead has changed: session 4711 leads, in epoch 7.")
	}
	shows(t, seen(v, 40, 24), "consumer1 1,111,104 25 123,456", "= EQUAL since 11:59:00")
	shows(t, seen(&scene{words: rides, now: noon}, 80, 24), "Waiting for the first reading", "nothing has happened yet")
}

func TestFrameOfTrouble(t *testing.T) {
	t.Parallel()
	change := func(v *scene, f func(*sample)) {
		next := *v.sample
		next.Time += 250
		f(&next)
		v.sampled(&next)
	}
	v := sceneOf(1000, 2)
	change(v, func(s *sample) { s.Postgres = "refused" })
	shows(t, seen(v, 80, 24), "! Postgres cannot be read", "figures of 12:00:01", "numbered 995 –", "UNKNOWN; at 12:00:00 it was equal: Postgres cannot be read",
		"? consumer0 900.00", "latency p50 –")

	v = sceneOf(1000, 2)
	change(v, func(s *sample) { s.Redis = "refused" })
	shows(t, seen(v, 120, 24), "! Redis cannot be read; rides are booked all the same", "! published 988", "EQUAL since")

	v = sceneOf(1000, 2)
	empty := int64(0)
	change(v, func(s *sample) { s.Head = &empty })
	if frame := seen(v, 120, 24); strings.Contains(frame, "lost") {
		t.Errorf("a loss is told at the first sight of it:\n%s", frame)
	}
	change(v, func(s *sample) { s.Head = &empty })
	shows(t, seen(v, 120, 24), "Redis has lost 988 records", "lost: being built again")

	v = sceneOf(1000, 2)
	change(v, func(s *sample) { s.Leader = nil; s.MoreAre = true; s.Staged = countAtMost })
	shows(t, seen(v, 80, 24), "No streamer leads: 10,007 records wait.", "staged 10,995+", "10,000+", "nobody leads")

	v = sceneOf(1000, 2)
	change(v, func(s *sample) { s.Consumers[1].LagSeconds, s.Consumers[1].DeadLetters = 61, 3 })
	shows(t, seen(v, 120, 24), "consumer1 is 100 records behind, 1m1s. consumer1 has parked 3 records.", "! consumer1", "3 records parked")

	v = sceneOf(1000, 2)
	change(v, func(s *sample) {
		s.Consumers[1].Halted, s.Consumers[1].Why, s.Consumers[0].Paused = "has halted at offset 901", "it is cursed", "ada"
	})
	shows(t, seen(v, 120, 24), "! consumer0 is paused by ada; 100 records wait for it. consumer1 has halted at offset 901; 100 records wait for it.",
		"paused by ada", "! consumer1 900", "has halted at offset 901: it")

	v = sceneOf(1000, 2)
	a := *v.audit
	a.Agrees, a.Since = false, a.Time
	a.Balances = append([]balance(nil), a.Balances...)
	a.Balances[1].Agrees, a.Balances[1].Difference, a.Balances[0].Parked = false, "-1234.5", "7"
	v.audited(&a)
	shows(t, seen(v, 80, 24), "≠ The totals do not agree.", "AUDIT ≠ NOT EQUAL since 12:00:00, for 0s; consumer1 is off by -1,234.5 m",
		"= consumer0 900.00 100.00 5.25 7.00", "≠ consumer1", "+ parked")

	v = sceneOf(1000, 2)
	v.audited(&auditFigure{Error: "no answer"})
	shows(t, seen(v, 80, 24), "AUDIT ? UNKNOWN: it could not be made: no answer")
}

// Nothing is wider or longer than the terminal, nor can a name play with it.
func TestFrameFits(t *testing.T) {
	t.Parallel()
	for _, v := range []*scene{{words: rides, now: noon}, sceneOf(10, 0), sceneOf(1_234_567, 2), sceneOf(9_876_543_210_987, 9)} {
		if v.sample != nil {
			v.sample.Redis = "refused"
			for i := range v.sample.Consumers {
				v.sample.Consumers[i].Name = "\x1b[31m\r\n見日本" + strings.Repeat("é", 90)
			}
		}
		for range 50 {
			v.noted(note{Kind: "lost", Text: strings.Repeat("word 見日本 \x1b]0;title\a", 30)})
		}
		for width := 1; width <= 200; width++ {
			heights := []int{24}
			if width%20 == 0 {
				heights = []int{10, 24, 60}
			}
			for _, height := range heights {
				lines := v.lines(width, height)
				if len(lines) > height || v.sample != nil && height >= 24 && len(lines) < height {
					t.Errorf("%d lines for %dx%d", len(lines), width, height)
				}
				for _, line := range lines {
					if w := ansi.StringWidth(line); w > width {
						t.Errorf("%d columns for %dx%d: %q", w, width, height, line)
					}
					if strings.ContainsFunc(ansi.Strip(line), unicode.IsControl) || strings.Contains(line, "\x1b]") {
						t.Fatalf("a line has control characters: %q", line)
					}
				}
			}
		}
	}
}

// Few lines still have the audit's verdict and some news, and say what they leave out.
func TestFrameOfManyConsumers(t *testing.T) {
	t.Parallel()
	frame := seen(sceneOf(1000, 30), 80, 24)
	shows(t, frame, "and 28 more, at most 100 records behind", "= EQUAL", "= consumer1", "The lead has changed")
	if strings.Contains(frame, "consumer2") {
		t.Errorf("there is no room for a third one:\n%s", frame)
	}
	shows(t, seen(sceneOf(1000, 30), 80, 90), "consumer29", "= consumer29")
}

// Figures end in the same columns, however many digits they have.
func TestColumnsStay(t *testing.T) {
	t.Parallel()
	figure := regexp.MustCompile(`\d( |$)`)
	for width := 40; width <= 200; width++ {
		var before string
		var places [][]int
		for _, booked := range []int64{100, 99_990, 9_999_990} {
			frame := seen(sceneOf(booked, 2), width, 24)
			var now [][]int
			for line := range strings.SplitSeq(frame, "\n") {
				for _, at := range figure.FindAllStringIndex(line, -1) {
					now = append(now, []int{len(now), ansi.StringWidth(line[:at[0]])})
				}
			}
			if places != nil && !reflect.DeepEqual(now, places) {
				t.Fatalf("at %d columns, figures have moved:\n%s\n%s", width, before, frame)
			}
			before, places = frame, now
		}
	}
}

// A panic leaves the terminal as it was.
func TestTerminalIsRestoredAfterAPanic(t *testing.T) {
	t.Parallel()
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan string)
	go func() {
		var out strings.Builder
		for chunk := make([]byte, 4096); ; {
			n, err := keyboard.Read(chunk)
			out.Write(chunk[:n])
			if err != nil {
				written <- out.String()
				return
			}
		}
	}()
	func() {
		defer func() {
			if panicked := fmt.Sprint(recover()); !strings.Contains(panicked, "nil pointer") || !strings.Contains(panicked, "readPostgres") {
				t.Errorf("what it panicked with does not say where: %s", panicked)
			}
		}()
		_ = Watch(t.Context(), Config{Log: newSite(t).log}, tty, tty, true) // there is no database
	}()
	after, err := term.GetState(int(tty.Fd()))
	if err != nil || *after != *before {
		t.Errorf("the terminal's mode is %v, was %v, %v", after, before, err)
	}
	_, _ = keyboard.Write([]byte("q\n")) // for the goroutine that reads keys
	_ = tty.Close()
	if out := <-written; !strings.HasSuffix(strings.TrimSuffix(out, "q\r\n"), leaveScreen) {
		t.Errorf("the last words to the terminal are %q", out[max(0, len(out)-100):])
	}
	_ = keyboard.Close()
}
