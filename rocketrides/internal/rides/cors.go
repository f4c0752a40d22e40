package rides

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// checkOrigin refuses what no browser would send as the origin of a page.
func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || strings.Contains(u.Host, "*") ||
		origin != u.Scheme+"://"+strings.ToLower(u.Host) {
		return fmt.Errorf("--cors-origin must be exact, in lower case and without a path, as https://app.example.com, not %q", origin)
	}
	return nil
}

// crossOrigin lets the pages of the configured origins call the api. It reports
// whether it has answered: a preflight, which has no token (Fetch, 4.8). To
// pages of other origins it says nothing, so that browsers keep the answer from
// them. The api takes no cookies, so neither credentials nor * are needed.
func (a *API) crossOrigin(w http.ResponseWriter, r *http.Request) (answered bool) {
	h := w.Header()
	h["Vary"] = []string{"Origin"}
	origin := r.Header.Get("Origin")
	if !slices.Contains(a.cfg.CORSOrigins, origin) {
		return false
	}
	h["Access-Control-Allow-Origin"] = []string{origin}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h["Access-Control-Expose-Headers"] = []string{"Location, Retry-After, WWW-Authenticate, X-Request-Id"}
		return false
	}
	h["Access-Control-Allow-Methods"] = []string{"GET, HEAD, POST"}
	h["Access-Control-Allow-Headers"] = []string{"Authorization, Content-Type, Idempotency-Key, X-Request-Id"}
	h["Access-Control-Max-Age"] = []string{"600"}
	w.WriteHeader(http.StatusNoContent)
	return true
}
