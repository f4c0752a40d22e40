package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Errors have one line and durations a unit, in both formats, and what came
// from a connection string has no password.
func TestLogValues(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"text": `WRN got postgres://xxxxx@h err="down at redis://xxxxx@h" every=10s` + "\n",
		"json": `"level":"WARN","msg":"got postgres://xxxxx@h","err":"down at redis://xxxxx@h","every":"10s"}` + "\n",
	} {
		out, err := os.Create(filepath.Join(t.TempDir(), "log"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		log, err := (&LoggingFlags{LogLevel: "warn", LogFormat: format}).Logger(out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("not at this level")
		log.Warn("got postgres://u:p@h", "err", errors.New("down at\n\tredis://:a@b@h"), "every", 10*time.Second)
		said, err := os.ReadFile(out.Name())
		if err != nil || !strings.HasSuffix(string(said), want) || bytes.Count(said, []byte("\n")) != 1 {
			t.Errorf("%s: %s (%v), want %s", format, said, err, want)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"no password here, a=b @ c":                           "no password here, a=b @ c",
		"at http://127.0.0.1:5005":                            "at http://127.0.0.1:5005",
		"like postgres://user:password@host:5432/database":    "like postgres://user:password@host:5432/database",
		"open postgres://u:s@h/d and redis://:s@h/0":          "open postgres://xxxxx@h/d and redis://xxxxx@h/0",
		"open postgres://u:p@s/s?s#s@h/d":                     "open postgres://xxxxx@h/d",
		"host=h password=s user=u":                            "host=h password=xxxxx user=u",
		"host=h PASSWORD='s s' user=u":                        "host=h PASSWORD=xxxxx user=u",
		"postgres://h/d?password=s&sslpassword=s&sslmode=off": "postgres://h/d?password=xxxxx&sslpassword=xxxxx&sslmode=off",
	} {
		if got := redact(text); got != want {
			t.Errorf("redact(%q) = %q, want %q", text, got, want)
		}
	}
}
