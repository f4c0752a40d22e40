// Package openapitest holds the api against its OpenAPI document. It is apart from
// the other tests of the api because its validator takes minutes to build with the
// race detector, which has nothing to find here.
package openapitest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestOpenAPI holds what the api answers against the document, and the document
// against what the api answers.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	examples := newExamples(t)
	w := httptest.NewRecorder()
	examples.api.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.yaml", nil))
	document, err := libopenapi.NewDocument(w.Body.Bytes())
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
	for operation, examples := range examples.byOperation() {
		for _, x := range examples {
			for _, accept := range []string{"*/*", "application/problem+json"} {
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
