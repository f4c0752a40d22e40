package up

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := newOutput(&b, false, []string{"up", "a", "long"})
	a, long := out.from("a"), out.from("long")
	fmt.Fprint(a, "one\ntw")
	fmt.Fprint(long, "x\r\n")
	fmt.Fprint(a, "o\n")
	fmt.Fprint(a, "no end")
	out.say("%d", 1)
	a.flush()
	a.flush()
	want := "a    | one\nlong | x\na    | two\nup   | 1\na    | no end\n"
	if b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

func TestOutputColor(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := newOutput(&b, true, []string{"up", "a"})
	out.say("x")
	fmt.Fprintln(out.from("a"), "y")
	if want := "\x1b[36mup | \x1b[0mx\n\x1b[33ma  | \x1b[0my\n"; b.String() != want {
		t.Errorf("got %q", b.String())
	}
}

// Lines of many writers stay whole, however they are cut up.
func TestOutputConcurrent(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := newOutput(&b, false, []string{"up"})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			w := out.from(fmt.Sprintf("w%d", i))
			text := strings.Repeat(fmt.Sprintf("line of %d\n", i), 100)
			for len(text) > 0 {
				n := min(7, len(text))
				fmt.Fprint(w, text[:n])
				text = text[n:]
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 800 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		var p, i int
		if n, err := fmt.Sscanf(line, "w%d | line of %d", &p, &i); n != 2 || p != i || err != nil {
			t.Errorf("got %q", line)
		}
	}
}

// A line without end is not held back for ever.
func TestOutputLongLine(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	out := newOutput(&b, false, []string{"up"})
	fmt.Fprint(out.from("up"), strings.Repeat("x", maxLine))
	if n := strings.Count(b.String(), "x"); n != maxLine {
		t.Errorf("%d bytes", n)
	}
}
