package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/status"
)

// TestStatusShowsNamesAsText has a consumer elsewhere whose name, which is anybody's who
// may report to the log, would be a terminal's command and a line of its own.
func TestStatusShowsNamesAsText(t *testing.T) {
	t.Parallel()
	const name = "ev\x1b[31mil\tx\nfake"
	s := &status.Status{Consumers: []status.Consumer{{Name: name, Elsewhere: true, Pace: &status.Pace{}}}}
	var out bytes.Buffer
	if err := printStatus(&out, s, []string{name + " is behind"}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Contains(got, "\nfake") || strings.Count(got, `ev\x1b[31mil\tx\nfake`) != 3 {
		t.Errorf("it shows %q", got)
	}
}
