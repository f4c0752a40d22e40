package rides

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestAsksForProblem(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                                    false,
		"*/*":                                 false,
		"application/*":                       false,
		"application/json":                    false,
		"application/problem+xml":             false,
		"application/problem+json":            true,
		"Application/Problem+JSON; Q=1":       true,
		"application/problem+json;q=0.001":    true,
		"application/problem+json;q=0":        false,
		"application/problem+json;q=0.0, */*": false,
		"text/html, application/problem+json;q=0.1":                       true,
		"application/json, application/problem+json":                      true,
		"application/json,application/problem+json;q=0.9":                 false,
		"application/json;q=0.8 , application/problem+json ; q=0.9":       true,
		"application/problem+json;q=0.9, application/*;q=1":               false,
		"application/problem+json, */*;q=0.1":                             true,
		"*/*, application/json;q=0, application/problem+json;q=0.5":       true,
		"application/*, application/json;q=0.1, application/problem+json": true,
		"application/problem+json;q=2":                                    false,
		"application/problem+json;q=-1":                                   false,
		"application/problem+json;q=NaN":                                  false,
		"application/problem+json;q=":                                     false,
		"application/problem+json;q=1;q=0":                                false,
		",;,/,application/problem+json,=":                                 true,
	} {
		if got := asksForProblem([]string{accept}); got != want {
			t.Errorf("Accept: %s asks for a problem: %t; want %t", accept, got, want)
		}
	}
	if !asksForProblem([]string{"application/json", "application/problem+json"}) {
		t.Error("a second Accept header is not read")
	}
}

func TestProblem(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, brokenDatabase{value: "secret"})
	for path, want := range map[string]string{
		"/rides/x": `{"error":"A ride's id must be a whole number from 1 to 9223372036854775807.","type":"about:blank",` +
			`"title":"Bad Request","status":400,"detail":"A ride's id must be a whole number from 1 to 9223372036854775807."}`,
		"/rides/1": `{"error":"Internal server error.","type":"about:blank",` +
			`"title":"Internal Server Error","status":500,"detail":"Internal server error."}`,
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept", problemType)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if got := w.Body.String(); got != want+"\n" || w.Header().Get("Content-Type") != problemType {
			t.Errorf("%s is answered %v %s; want %s", path, w.Header(), got, want)
		}
	}
}
