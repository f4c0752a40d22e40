package endtoend_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/testenv"
)

// TestLanguagesStage stages records from other languages, by each of the ways that
// docs/staging.md shows: with the order, or not at all.
func TestLanguagesStage(t *testing.T) {
	t.Parallel()
	l := testenv.NeedLanguages(t)
	for _, name := range []string{"staging_psycopg.py", "staging_sqlalchemy.py", "staging_django.py", "staging_pg.mjs", "staging_drizzle.mjs"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := testenv.Database(t, "shop", migrateShop)
			run := func(args ...string) (string, error) {
				program := program(t, l, name)
				cmd := exec.Command(program[0], append(program[1:], args...)...)
				// Whoever stages says which encoding it sends.
				cmd.Env = append(os.Environ(), "DATABASE_URL="+url(db), "PGCLIENTENCODING=LATIN1", "PGCLIENT_ENCODING=LATIN1", "PYTHONUTF8=1")
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := run("zürich€", "995", "köln", "-1", "bern", "5"); err == nil || !strings.Contains(out, "an order costs something") {
				t.Fatalf("an order that is refused: %v, %s", err, out)
			}
			for what, want := range map[string]string{
				`SELECT id || ' ' || cents FROM orders`:                                                "zürich€ 995",
				`SELECT concat_ws(' ', object, action, key, data, headers) FROM unilog.staged_records`: `order create zürich€ {"cents": 995}`,
			} {
				rows, err := db.Query(t.Context(), what)
				must(t, err)
				got, err := pgx.CollectRows(rows, pgx.RowTo[string])
				must(t, err)
				if strings.Join(got, "\n") != want {
					t.Errorf("%s has %q, want %q", what, got, want)
				}
				t.Log(got)
			}
		})
	}
}

// TestStagingDocumentShowsTheExamples sees that the code in the document is what the
// test above runs.
func TestStagingDocumentShowsTheExamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/staging.md")
	must(t, err)
	blocks := regexp.MustCompile("(?s)\\]\\(\\.\\./(examples/[^)]*)\\).*?```\\w+\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 5 {
		t.Fatalf("it has %d blocks after links to examples, want 5", len(blocks))
	}
	for _, block := range blocks {
		source, err := os.ReadFile(filepath.Join("..", block[1]))
		must(t, err)
		for _, part := range strings.Split(block[2], "\n…\n") {
			if !strings.Contains(string(source), strings.TrimSpace(part)) {
				t.Errorf("%s does not have\n%s", block[1], part)
			}
		}
	}
}
