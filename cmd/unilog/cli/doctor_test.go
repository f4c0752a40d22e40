package cli

import (
	"strings"
	"testing"
)

// The errors are real, and it takes no pooler to make them.
func TestStatementsThatAPoolerMixesUp(t *testing.T) {
	t.Parallel()
	pool := database(t)
	says := func(sql string) string {
		_, err := pool.Exec(t.Context(), sql)
		_, line := new(Program).Verdict(err)
		return line
	}
	const words = "a pooler in transaction mode"
	for _, sql := range []string{`PREPARE a AS SELECT 1; PREPARE a AS SELECT 1`, `EXECUTE b`} {
		if line := says(sql); !strings.Contains(line, words) {
			t.Errorf("%s: %s", sql, line)
		}
	}
	if line := says(`SELECT 1/0`); line == "" || strings.Contains(line, words) {
		t.Errorf("another error became %s", line)
	}
}
