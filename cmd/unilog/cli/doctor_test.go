package cli

import (
	"strings"
	"testing"
)

// The errors are real, and it takes no pooler to make them.
func TestStatementsThatAPoolerMixesUp(t *testing.T) {
	t.Parallel()
	pool := database(t)
	for _, sql := range []string{`PREPARE a AS SELECT 1; PREPARE a AS SELECT 1`, `EXECUTE b`} {
		if _, err := pool.Exec(t.Context(), sql); err == nil || !strings.Contains(new(Program).pooled(err).Error(), "a pooler in transaction mode") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := pool.Exec(t.Context(), `SELECT 1/0`); new(Program).pooled(err) != err {
		t.Errorf("another error became %v", new(Program).pooled(err))
	}
}
