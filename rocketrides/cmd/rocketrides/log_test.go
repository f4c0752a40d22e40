package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is no terminal gets JSON, unless something else is asked for.
func TestLogFormat(t *testing.T) {
	t.Parallel()
	const text, asJSON = " INF the database's tables are up to date\n", `"level":"INFO","msg":"the database's tables are up to date"}` + "\n"
	_, env := database(t)
	for _, tc := range []struct{ flag, variable, want string }{
		{"", "", asJSON}, // NAME= is as if it were not set
		{"", "auto", asJSON},
		{"", "json", asJSON},
		{"", "text", text},
		{"--log-format=json", "text", asJSON},
		{"--log-level=warn", "json", ""},
	} {
		args := []string{"migrate"}
		if tc.flag != "" {
			args = append(args, tc.flag)
		}
		r := execute(t, append(env, "LOG_FORMAT="+tc.variable), args...)
		if r.code != 0 || !strings.HasSuffix(r.out, tc.want) || tc.want == "" && r.out != "" {
			t.Errorf("with %+v it said %+v", tc, r)
		}
		if isJSON := json.Valid([]byte(r.out)); isJSON != (tc.want == asJSON) {
			t.Errorf("with %+v, JSON: %t", tc, isJSON)
		}
	}
	for _, wrong := range []string{"--log-level=trace", "--log-format=xml"} {
		here(t.Context(), t, "migrate", wrong).fails(t, exitUsage, wrong[:strings.Index(wrong, "=")]+" must be one of")
	}
	f := &loggingFlags{LogFormat: "auto"}
	if got := f.format(true); got != "text" {
		t.Errorf("on a terminal it logs %s", got)
	}
}

// The api says at each level what belongs there: a request at debug, which
// VERBOSE asks for too.
func TestLogLevel(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	for variable, request := range map[string]bool{
		"LOG_LEVEL=debug": true,
		"LOG_LEVEL=info":  false,
		"VERBOSE=true":    true,
	} {
		port := freePort(t)
		api := start(t, append(env, variable), "api", fmt.Sprintf("--port=%d", port))
		api.says("INF api listens")
		answers(t, fmt.Sprintf("http://127.0.0.1:%d/healthz", port), 200, "ok")
		if said := api.stop(); strings.Contains(said, "path=/healthz status=200") != request {
			t.Errorf("with %s it said:\n%s", variable, said)
		}
	}
	if r := execute(t, []string{"VERBOSE=true"}, "streamer", "--help"); !strings.Contains(r.out, "debug if not set") {
		t.Errorf("VERBOSE does not lower the level:\n%s", r.out)
	}
}

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
		log, err := (&loggingFlags{LogLevel: "warn", LogFormat: format}).logger(out)
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
