package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// event is a line of `go test -json`.
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// name is of a test, or of a package.
type name struct{ pkg, test string }

func (n name) String() string {
	if n.test == "" {
		return n.pkg
	}
	return n.pkg + " " + n.test
}

// result is what one run has said.
type result struct {
	outcome map[name]string // pass, fail or skip
	output  map[name]*strings.Builder
	exit    error
	rest    bytes.Buffer // standard error
	all     bytes.Buffer // in plain words
	// stood is how often a process stood still, and moving why none could any more.
	stood  int
	moving string
}

func newResult() *result {
	return &result{outcome: map[name]string{}, output: map[name]*strings.Builder{}}
}

// hear takes a line of the output.
func (r *result) hear(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil || e.Action == "" {
		r.all.Write(line)
		return
	}
	r.all.WriteString(e.Output)
	pkg := cmp.Or(e.Package, e.ImportPath)
	n := name{pkg[strings.LastIndexByte(pkg, '/')+1:], e.Test}
	switch e.Action {
	case "pass", "fail", "skip":
		r.outcome[n] = e.Action
	case "output", "build-output":
		if r.output[n] == nil {
			r.output[n] = new(strings.Builder)
		}
		if r.output[n].Len() < 1<<20 {
			r.output[n].WriteString(e.Output)
		}
	}
}

// failed are the tests that failed, but those that failed only because a part of
// theirs did, and packages in which nothing says why.
func (r *result) failed() []name {
	var failed []name
	for n, outcome := range r.outcome {
		if outcome == "fail" && !r.blamesAnother(n) {
			failed = append(failed, n)
		}
	}
	slices.SortFunc(failed, func(a, b name) int { return cmp.Compare(a.String(), b.String()) })
	return failed
}

func (r *result) blamesAnother(n name) bool {
	for other, outcome := range r.outcome {
		if outcome == "fail" && other != n && other.pkg == n.pkg && (n.test == "" || strings.HasPrefix(other.test, n.test+"/")) {
			return true
		}
	}
	return false
}

func (r *result) red() bool { return r.exit != nil || len(r.failed()) > 0 }

func (r *result) String() string {
	passed, skipped := 0, 0
	for n, outcome := range r.outcome {
		if n.test != "" && outcome == "pass" {
			passed++
		}
		if n.test != "" && outcome == "skip" {
			skipped++
		}
	}
	text := fmt.Sprintf("%d passed, %d skipped", passed, skipped)
	if r.stood > 0 {
		text += fmt.Sprintf(", %d standstills", r.stood)
	}
	if r.moving != "" {
		text += " (" + r.moving + ")"
	}
	if failed := r.failed(); len(failed) > 0 {
		text += fmt.Sprintf(", RED: %v", failed)
	} else if r.exit != nil {
		text += fmt.Sprintf(", RED: %v: %s", r.exit, shorten(r.rest.String()))
	}
	return text
}

// why picks what a test said of its failure.
func (r *result) why(n name) string {
	out := r.output[n]
	if out == nil {
		return "it said nothing"
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") && line != "FAIL" {
			lines = append(lines, line)
		}
	}
	return shorten(strings.Join(lines, " | "))
}

func shorten(text string) string {
	const most = 400
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = text[:most] + " …"
	}
	return text
}

// table adds runs up.
type table struct {
	runs    map[way]int
	tests   map[name]*counts
	skipped map[name]string
	broken  []string // runs that failed without a test that did
}

type counts struct {
	failed map[way]int
	why    []string
}

func newTable() *table {
	return &table{runs: map[way]int{}, tests: map[name]*counts{}, skipped: map[name]string{}}
}

// all is how many runs there were.
func (t *table) all() (n int) {
	for _, some := range t.runs {
		n += some
	}
	return n
}

func (t *table) add(r *result, how way) {
	t.runs[how]++
	for n, outcome := range r.outcome {
		if outcome == "skip" && n.test != "" {
			t.skipped[n] = r.why(n)
		}
	}
	failed := r.failed()
	if len(failed) == 0 && r.exit != nil {
		t.broken = append(t.broken, fmt.Sprintf("run %d: %v: %s", t.all(), r.exit, shorten(r.rest.String())))
	}
	for _, n := range failed {
		c := t.tests[n]
		if c == nil {
			c = &counts{failed: map[way]int{}}
			t.tests[n] = c
		}
		c.failed[how]++
		if why := r.why(n); !slices.Contains(c.why, why) {
			c.why = append(c.why, why)
		}
	}
}

func (t *table) red() bool { return len(t.tests) > 0 || len(t.broken) > 0 || t.all() == 0 }

func (t *table) print(out io.Writer) {
	fmt.Fprintf(out, "\n%d runs", t.all())
	hows := slices.Sorted(maps.Keys(t.runs))
	for _, how := range hows {
		fmt.Fprintf(out, ", %d %s", t.runs[how], how)
	}
	fmt.Fprintln(out)
	byName := func(a, b name) int { return cmp.Compare(a.String(), b.String()) }
	for _, n := range slices.SortedFunc(maps.Keys(t.skipped), byName) {
		fmt.Fprintf(out, "skipped: %s: %s\n", n, t.skipped[n])
	}
	for _, b := range t.broken {
		fmt.Fprintf(out, "broken: %s\n", b)
	}
	if len(t.tests) == 0 {
		if len(t.broken) == 0 {
			fmt.Fprintln(out, "every test was green every time")
		}
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "not green every time")
	for _, how := range hows {
		fmt.Fprint(w, "\t", how)
	}
	fmt.Fprintln(w)
	names := slices.SortedFunc(maps.Keys(t.tests), byName)
	for _, n := range names {
		fmt.Fprint(w, n)
		for _, how := range hows {
			fmt.Fprintf(w, "\t%d of %d", t.tests[n].failed[how], t.runs[how])
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	for _, n := range names {
		for _, why := range t.tests[n].why {
			fmt.Fprintf(out, "\n%s:\n  %s\n", n, why)
		}
	}
}
