package rides

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func BenchmarkReadParameter(b *testing.B) {
	for _, c := range []struct{ name, contentType, body string }{
		{"form", formType, "distance=123.45"},
		{"form among others", formType, "a=%20b&distance=123.45"},
		{"JSON", jsonType, `{"distance":123.45}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, "/rides", nil)
			r.Header.Set("Content-Type", c.contentType)
			r.ContentLength = int64(len(c.body))
			body := strings.NewReader(c.body)
			r.Body = http.NoBody
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(c.body)
				r.Body = readCloser{body}
				if value, err := readParameter(w, r, "distance"); err != nil || value != "123.45" {
					b.Fatal(value, err)
				}
			}
		})
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

func BenchmarkWriteCreated(b *testing.B) {
	distance, err := ParseDistance("123.45")
	if err != nil {
		b.Fatal(err)
	}
	ride := Ride{ID: 123456, Distance: distance, CreatedAt: time.Unix(1700000000, 123456000).UTC()}
	w := discard{}
	b.ReportAllocs()
	for b.Loop() {
		clear(w)
		writeCreated(w, ride)
	}
}

// discard is an answer that nobody gets.
type discard http.Header

func (d discard) Header() http.Header       { return http.Header(d) }
func (discard) WriteHeader(int)             {}
func (discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkGuard shows what it costs to let a request through.
func BenchmarkGuard(b *testing.B) {
	file := filepath.Join(b.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("alice "+hashOf("a")), 0o600); err != nil {
		b.Fatal(err)
	}
	for name, cfg := range map[string]APIConfig{
		"nothing":    {},
		"everything": {TokensFile: file, RateLimit: 1e9, MaxRequests: 1, MaxBacklog: 1, CORSOrigins: []string{"https://app.example.com"}},
	} {
		b.Run(name, func(b *testing.B) {
			cfg.DB = brokenDatabase{}
			api, err := NewAPI(cfg)
			if err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "/nothing", nil)
			r.Header.Set("Authorization", "Bearer a")
			w := discard{}
			b.ReportAllocs()
			for b.Loop() {
				clear(w)
				api.ServeHTTP(w, r)
			}
		})
	}
}
