package rides

import (
	"log/slog"
	"net/http"
	"time"
)

// refusal is why a request is turned away before it costs anything.
type refusal struct {
	reason  string
	status  int
	message string
	// challenge is the parameter error of the challenge (RFC 6750, 3.1), if there is one.
	challenge string
}

// The reasons, and what clients are told.
const unauthorized = "unauthorized"

var (
	noToken        = &refusal{unauthorized, http.StatusUnauthorized, "Please authenticate with 'Authorization: Bearer TOKEN'.", ""}
	twoTokens      = &refusal{unauthorized, http.StatusBadRequest, "Header 'Authorization' must be given only once.", "invalid_request"}
	malformedToken = &refusal{unauthorized, http.StatusBadRequest, "Header 'Authorization' must be 'Bearer' and one token.", "invalid_request"}
	unknownToken   = &refusal{unauthorized, http.StatusUnauthorized, "The token is not valid.", "invalid_token"}

	tooManyRequests = &refusal{"concurrency", http.StatusServiceUnavailable, "The api has too many requests in hand.", ""}
	tooFast         = &refusal{"rate_limit", http.StatusTooManyRequests, "Too many requests a second.", ""}
	poolExhausted   = &refusal{"pool", http.StatusServiceUnavailable, "The database has too many bookings in hand.", ""}
	tooFarBehind    = &refusal{"backlog", http.StatusServiceUnavailable, "Too many rides wait to be published.", ""}
)

// refuse answers every request that is turned away.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, why *refusal) {
	switch {
	case why.reason != unauthorized:
		w.Header().Set("Retry-After", "1")
	case why.challenge != "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="Rocket Rides", error="`+why.challenge+`"`)
	default:
		w.Header().Set("WWW-Authenticate", `Bearer realm="Rocket Rides"`)
	}
	if why.status == http.StatusServiceUnavailable {
		if dropped, ok := a.refusals.pass(time.Now()); ok {
			a.logRequest(r, slog.LevelWarn, "request refused", "reason", why.reason, "more_since_last", dropped)
		}
	}
	writeError(w, why.status, why.message)
}

// isOpen tells the paths that nothing guards: a probe must get its answer when
// the api is busy, and has no token.
func isOpen(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/openapi.yaml"
}

// guard lets a request through to its handler, or refuses it. Whoever has no
// token is refused before this, and takes nothing from those who have.
func (a *API) guard(w *recorder, r *http.Request) {
	if a.cfg.MaxRequests > 0 {
		defer a.inHand.Add(-1)
		if a.inHand.Add(1) > int64(a.cfg.MaxRequests) {
			a.refuse(w, r, tooManyRequests)
			return
		}
	}
	if a.limits != nil && !a.limits.allow(clientOf(r), time.Now()) {
		a.refuse(w, r, tooFast)
		return
	}
	a.route(w, r)
}
