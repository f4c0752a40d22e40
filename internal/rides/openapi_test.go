package rides

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
)

// example is a request, and the status that it must be answered with.
type example struct {
	api                               http.Handler
	method, target, contentType, body string
	status                            int
}

// openAPIExamples returns, by operation, requests that get every answer which
// the document describes.
func openAPIExamples(t *testing.T) map[string][]example {
	t.Helper()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	postRide(api) // the ride 1 that is shown
	down, _ := newAPI(t, reconnect(t, pool, func(c *pgxpool.Config) {
		c.ConnConfig.Host = t.TempDir()
		c.ConnConfig.Fallbacks = nil
	}))
	other := newDatabase(t)
	if _, err := other.Exec(t.Context(), `DROP TABLE rides`); err != nil {
		t.Fatal(err)
	}
	broken, _ := newAPI(t, other)
	stalled := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(iotest.ErrReader(os.ErrDeadlineExceeded))
		api.ServeHTTP(w, r)
	})
	with := func(key string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("Idempotency-Key", key)
			api.ServeHTTP(w, r)
		})
	}
	guarded, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a\n")), func(c *APIConfig) { c.RateLimit = 1 })
	useUp(guarded, client{caller: "alice"})
	as := func(authorization ...string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header["Authorization"] = authorization
			guarded.ServeHTTP(w, r)
		})
	}
	full, _ := newAPI(t, pool, func(c *APIConfig) { c.MaxRequests = 1 })
	full.inHand.Store(1)
	behind, _ := newAPI(t, pool)
	behind.backlog.over.Store(true)
	api.bookings.inFlight = map[keyHash]bool{HashKey(everyone, "in flight"): true}
	return map[string][]example{
		"POST /rides": {
			{with("k"), "POST", "/rides", formType, "distance=123.0", 201},
			{with("k"), "POST", "/rides", formType, "distance=123.1", 422},
			{with(""), "POST", "/rides", formType, "distance=123.0", 400},
			{with("in flight"), "POST", "/rides", formType, "distance=123.0", 409},
			{api, "POST", "/rides", formType, "distance=123.0", 201},
			{api, "POST", "/rides", formType, "distance=.5e1&x=y", 201},
			{api, "POST", "/rides", jsonType, `{"distance":1e9}`, 201},
			{api, "POST", "/rides", jsonType, `{"distance":"1.50","x":[]}`, 201},
			{api, "POST", "/rides?distance=0", "", "", 201},
			{api, "POST", "/rides", jsonType, "{", 400},
			{api, "POST", "/rides?distance=%zz", "", "", 400},
			{api, "GET", "/rides", "", "", 405},
			{stalled, "POST", "/rides", formType, "distance=1", 408},
			{api, "POST", "/rides", formType, strings.Repeat("x", maxBodyBytes+1), 413},
			{api, "POST", "/rides", "text/plain", "distance=1", 415},
			{api, "POST", "/rides", formType, "", 422},
			{broken, "POST", "/rides", formType, "distance=1", 500},
			{down, "POST", "/rides", formType, "distance=1", 503},
			{as(), "POST", "/rides", formType, "distance=1", 401},
			{as("Bearer b"), "POST", "/rides", formType, "distance=1", 401},
			{as("Bearer a", "Bearer b"), "POST", "/rides", formType, "distance=1", 400},
			{as("Bearer a"), "POST", "/rides", formType, "distance=1", 429},
			{full, "POST", "/rides", formType, "distance=1", 503},
			{behind, "POST", "/rides", formType, "distance=1", 503},
		},
		"GET /rides/{id}": {
			{api, "GET", "/rides/1", "", "", 200},
			{api, "HEAD", "/rides/1", "", "", 200},
			{api, "GET", "/rides/x", "", "", 400},
			{api, "GET", "/rides/9223372036854775807", "", "", 404},
			{api, "DELETE", "/rides/1", "", "", 405},
			{broken, "GET", "/rides/1", "", "", 500},
			{down, "GET", "/rides/1", "", "", 503},
			{as(), "GET", "/rides/1", "", "", 401},
			{as("Bearer"), "GET", "/rides/1", "", "", 400},
			{as("Bearer a"), "GET", "/rides/1", "", "", 429},
			{full, "GET", "/rides/1", "", "", 503},
		},
		"GET /healthz": {
			{api, "GET", "/healthz", "", "", 200},
			{api, "HEAD", "/healthz", "", "", 200},
			{api, "POST", "/healthz", "", "", 405},
		},
		"GET /readyz": {
			{api, "GET", "/readyz", "", "", 200},
			{api, "HEAD", "/readyz", "", "", 200},
			{api, "POST", "/readyz", "", "", 405},
			{down, "GET", "/readyz", "", "", 503},
		},
		"GET /openapi.yaml": {
			{api, "GET", "/openapi.yaml", "", "", 200},
			{api, "HEAD", "/openapi.yaml", "", "", 200},
			{api, "POST", "/openapi.yaml", "", "", 405},
		},
	}
}

// TestOpenAPI holds what the api answers against the document, and the document
// against what the api answers.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	document, err := libopenapi.NewDocument([]byte(openAPIDocument))
	if err != nil {
		t.Fatal(err)
	}
	requests := newValidator(t, document)
	answers := newValidator(t, document, config.WithStrictMode(),
		config.WithStrictIgnoredHeadersExtra("Connection", "X-Content-Type-Options", "X-Request-Id"))
	if ok, errs := answers.ValidateDocument(); !ok {
		t.Fatal(errs)
	}

	seen := map[string]bool{}
	for operation, examples := range openAPIExamples(t) {
		for _, x := range examples {
			for _, accept := range []string{"*/*", problemType} {
				w := httptest.NewRecorder()
				x.api.ServeHTTP(w, x.request(x.method, accept))
				if w.Code != x.status {
					t.Errorf("%s %s %.40s answered %d %s; want %d", x.method, x.target, x.body, w.Code, w.Body, x.status)
				}
				// What other methods get is described by the operation of the path.
				method, _, _ := strings.Cut(operation, " ")
				if ok, errs := requests.ValidateHttpRequest(x.request(method, accept)); !ok && w.Code < 400 {
					t.Errorf("%s %s %.40s is not in the document: %v", x.method, x.target, x.body, errs)
				}
				answer := w.Result()
				if ok, errs := answers.ValidateHttpResponse(x.request(method, accept), answer); !ok {
					t.Errorf("%s %s %.40s: %d %v %s is not in the document: %v",
						x.method, x.target, x.body, answer.StatusCode, answer.Header, w.Body, errs)
				}
				seen[answerKey(operation, fmt.Sprint(answer.StatusCode), answer.Header.Get("Content-Type"))] = true
			}
		}
	}

	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range described(&model.Model) {
		if !seen[key] {
			t.Errorf("the document describes %s, which no request got", key)
		}
	}
}

func newValidator(t *testing.T, document libopenapi.Document, more ...config.Option) validator.Validator {
	t.Helper()
	options := append(more, config.WithFormatAssertions(), config.WithStandardBodyDecoders())
	v, errs := validator.NewValidator(document, options...)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	t.Cleanup(v.Release)
	return v
}

func (x example) request(method, accept string) *http.Request {
	r := httptest.NewRequest(method, x.target, strings.NewReader(x.body))
	r.Header.Set("Accept", accept)
	if x.contentType != "" {
		r.Header.Set("Content-Type", x.contentType)
	}
	return r
}

func answerKey(operation, status, contentType string) string {
	return operation + " " + status + " " + contentType
}

// described returns the key of every answer in the document.
func described(document *v3.Document) (keys []string) {
	for path, item := range document.Paths.PathItems.FromOldest() {
		for method, operation := range item.GetOperations().FromOldest() {
			for status, answer := range operation.Responses.Codes.FromOldest() {
				for contentType := range answer.Content.KeysFromOldest() {
					keys = append(keys, answerKey(strings.ToUpper(method)+" "+path, status, contentType))
				}
			}
		}
	}
	return keys
}
