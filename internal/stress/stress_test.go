package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain doubles as what main starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "-burn" || os.Args[1] == "-still") {
		if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return
	}
	os.Exit(m.Run())
}

// suite prints what a suite of four tests does, of which one fails every other time.
const suite = `
say() { printf '%s\n' "$1"; } # dash's echo makes line breaks
n=$(cat "$1" 2>/dev/null || echo 0); echo $((n + 1)) >"$1"
echo "setup: nothing of JSON"
say '{"Action":"pass","Package":"m/p","Test":"TestGood"}'
say '{"Action":"skip","Package":"m/p","Test":"TestAway"}'
say '{"Action":"output","Package":"m/p","Test":"TestAway","Output":"    p_test.go:1: no broker\n"}'
if [ $((n % 2)) = 1 ]; then
	say '{"Action":"output","Package":"m/p","Test":"TestBad/part","Output":"    p_test.go:7: waited for rain\n"}'
	say '{"Action":"fail","Package":"m/p","Test":"TestBad/part"}'
	say '{"Action":"fail","Package":"m/p","Test":"TestBad"}'
	say '{"Action":"fail","Package":"m/p"}'
	exit 1
fi
say '{"Action":"pass","Package":"m/p","Test":"TestBad"}'
`

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	logs := filepath.Join(t.TempDir(), "logs")
	args := []string{"-n", "4", "-burners", "2", "-logs", logs, "sh", "-c", suite, "suite", filepath.Join(t.TempDir(), "n")}
	if err := run(t.Context(), args, &out); err == nil {
		t.Error("no error, and half of the runs were red")
	}
	for _, want := range []string{
		"4 runs, 1 alone, 2 beside a load, 1 with standstills\nskipped: p TestAway: p_test.go:1: no broker\n",
		"p TestBad/part        0 of 1  2 of 2         0 of 1\n\np TestBad/part:\n  p_test.go:7: waited for rain\n",
		"1 passed, 1 skipped, RED: [p TestBad/part]\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("without %q:\n%s", want, out.String())
		}
	}
	if log, err := os.ReadFile(filepath.Join(logs, "run-2.txt")); !strings.Contains(string(log), "waited for rain") {
		t.Errorf("the second run's log is %q, %v", log, err)
	}
}

// What fails without a test that does is red, too.
func TestBroken(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"echo no compiler >&2; exit 2":                     "broken: run 1: exit status 2: no compiler",
		`echo '{"Action":"fail","Package":"m/p"}'; exit 1`: "\np:\n  it said nothing\n",
		"exit 0": "every test was green every time\n",
	} {
		var out strings.Builder
		err := run(t.Context(), []string{"-n", "1", "sh", "-c", script}, &out)
		if (err == nil) != (script == "exit 0") || !strings.Contains(out.String(), want) {
			t.Errorf("%s: %v, without %q:\n%s", script, err, want, out.String())
		}
	}
}
