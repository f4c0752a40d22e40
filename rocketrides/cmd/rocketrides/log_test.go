package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
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
		here(t.Context(), t, "migrate", wrong).fails(t, cli.ExitUsage, wrong[:strings.Index(wrong, "=")]+" must be one of")
	}
	f := &cli.LoggingFlags{LogFormat: "auto"}
	if got := f.Format(true); got != "text" {
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
