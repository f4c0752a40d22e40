package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
)

const (
	tableBegins = "<!-- make test-matrix writes what follows -->\n"
	tableEnds   = "<!-- so far -->\n"
	tableHead   = "| Server | It says | Packages | Tests | Torture, 20 s | Seconds |\n|---|---|---|---|---|---|\n"
)

func (r row) line() string {
	tests, suites := fmt.Sprintf("%d passed", r.passed), fmt.Sprintf("%d", len(r.suites))
	if r.failed > 0 {
		tests += fmt.Sprintf(", %d failed", r.failed)
	}
	if r.refused {
		tests = "refused"
		if len(r.problems) > 0 {
			tests = "NOT REFUSED"
		}
		suites = ""
	}
	if r.found == "" {
		tests, suites = "NOT RUN", ""
	}
	if r.why != "" {
		tests += " (" + r.why + ")"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %d |\n", r.title(), cmp.Or(r.found, "-"), cmp.Or(suites, "-"), tests, cmp.Or(r.torture, "-"), r.seconds)
}

func table(rows []row) string {
	var b strings.Builder
	b.WriteString(tableHead)
	for _, r := range rows {
		b.WriteString(r.line())
	}
	return b.String()
}

// update puts the lines of servers without problems in the place of theirs in the table
// between the marks in a file. The others keep the lines of an earlier run.
func update(file string, rows []row) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegins)
	old, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no marks where a table begins and ends", file)
	}
	lines := map[string]string{}
	for line := range strings.Lines(old) {
		if cells := strings.Split(line, " | "); len(cells) > 1 {
			lines[cells[0]] = line
		}
	}
	for _, r := range rows {
		if len(r.problems) == 0 {
			lines["| "+r.title()] = r.line()
		}
	}
	var b strings.Builder
	b.WriteString(before + tableBegins + "\n" + tableHead)
	for _, s := range servers {
		b.WriteString(lines["| "+s.title()])
	}
	b.WriteString("\n" + tableEnds + after)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}
