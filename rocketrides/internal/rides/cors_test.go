package rides

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	const ours = "https://app.example.com"
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, withTokens(tokensFile(t, "page TOKEN:p\n")),
		func(c *APIConfig) { c.CORSOrigins = []string{"http://127.0.0.1:8080", ours} })
	off, _ := newAPI(t, pool)
	send := func(api *API, method, origin string, header ...string) http.Header {
		r := httptest.NewRequest(method, "/rides?distance=1", nil)
		r.Header.Set("Origin", origin)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		h := w.Header()
		h.Set("Status", http.StatusText(w.Code))
		return h
	}
	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,idempotency-key"}
	wants := func(what string, h http.Header, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got := h.Get(name); got != value {
				t.Errorf("%s: %s is %q; want %q", what, name, got, value)
			}
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") && want[name] == "" {
				t.Errorf("%s: %s is %q", what, name, h.Get(name))
			}
		}
	}
	wants("preflight", send(api, http.MethodOptions, ours, preflight...), map[string]string{
		"Status": "No Content", "Vary": "Origin", "Access-Control-Allow-Origin": ours,
		"Access-Control-Allow-Methods": "GET, HEAD, POST",
		"Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, X-Request-Id",
		"Access-Control-Max-Age":       "600",
	})
	readable := map[string]string{
		"Vary": "Origin", "Access-Control-Allow-Origin": ours,
		"Access-Control-Expose-Headers": "Location, Retry-After, WWW-Authenticate, X-Request-Id",
	}
	readable["Status"] = "Created"
	wants("booking", send(api, http.MethodPost, ours, "Authorization", "Bearer p"), readable)
	readable["Status"] = "Unauthorized" // a page can read that too
	wants("no token", send(api, http.MethodPost, ours), readable)
	wants("OPTIONS that is no preflight", send(api, http.MethodOptions, ours), readable)

	for _, origin := range []string{
		"https://example.com", "http://app.example.com", "https://app.example.com:444", "https://app.example.com.evil.com",
		"https://APP.example.com", "https://evil-app.example.com", "null", "*", "", ours + "," + ours,
	} {
		wants(origin, send(api, http.MethodPost, origin, "Authorization", "Bearer p"), map[string]string{"Status": "Created", "Vary": "Origin"})
		wants("preflight of "+origin, send(api, http.MethodOptions, origin, preflight...), map[string]string{"Status": "Unauthorized", "Vary": "Origin"})
	}
	wants("booking without CORS", send(off, http.MethodPost, ours), map[string]string{"Status": "Created", "Vary": ""})
	wants("preflight without CORS", send(off, http.MethodOptions, ours, preflight...), map[string]string{"Status": "Method Not Allowed", "Vary": ""})
}

func TestWrongOrigins(t *testing.T) {
	t.Parallel()
	for _, origin := range []string{
		"*", "null", "", "app.example.com", "https://", "https://app.example.com/", "https://app.example.com/x",
		"https://app.example.com?", "https://app.example.com#x", "https://user@app.example.com", "https://App.example.com",
		"ftp://example.com", "https://*.example.com", "https://a.example.com https://b.example.com",
	} {
		_, err := NewAPI(APIConfig{DB: brokenDatabase{}, CORSOrigins: []string{"http://[::1]:8080", origin}})
		if err == nil || !strings.Contains(err.Error(), "--cors-origin must be exact") {
			t.Errorf("%q: %v", origin, err)
		}
	}
}
