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

const unauthorized = "unauthorized"

// All refusals there are.
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
	a.cfg.Metrics.refuse(why.reason)
	if rec, ok := w.(*recorder); ok {
		rec.refused = true
	}
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

// limited refuses a request that is more than its client may send. Who has no
// token is refused before this, and takes nothing from those who have.
func (a *API) limited(w http.ResponseWriter, r *http.Request) bool {
	if a.limits == nil || a.limits.allow(clientOf(r), time.Now()) {
		return false
	}
	a.refuse(w, r, tooFast)
	return true
}

// enter counts a request that goes to the database, or refuses it. One whose body
// has not arrived takes no place: else slow clients could take all of them.
func (a *API) enter(w http.ResponseWriter, r *http.Request) bool {
	if n := a.inHand.Add(1); a.cfg.MaxRequests == 0 || n <= int64(a.cfg.MaxRequests) {
		return true
	}
	a.leave()
	a.refuse(w, r, tooManyRequests)
	return false
}

func (a *API) leave() { a.inHand.Add(-1) }
