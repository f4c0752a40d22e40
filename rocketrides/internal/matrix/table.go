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
	b.WriteString("| Server | It says | Packages | Tests | Torture, 20 s | Seconds |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		b.WriteString(r.line())
	}
	return b.String()
}

// replace puts a table in the place of the one between the marks in a file.
func replace(file, table string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegins)
	_, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no marks where a table begins and ends", file)
	}
	return os.WriteFile(file, []byte(before+tableBegins+"\n"+table+"\n"+tableEnds+after), 0o644)
}
