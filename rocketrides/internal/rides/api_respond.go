package rides

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/rocketrides/unilog/internal/postgres"
)

// recorder remembers how a request was answered, and what its client accepts.
type recorder struct {
	http.ResponseWriter
	accept  []string
	status  int
	route   string // of those there are, or other
	refused bool   // by [API.refuse]
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

var answerHeader = headerFor("application/json")

// headerFor is the header of every answer. The values are shared: nobody changes them.
func headerFor(contentType string) http.Header {
	return http.Header{
		"Content-Type":           {contentType},
		"X-Content-Type-Options": {"nosniff"},
		"Cache-Control":          {"no-store"},
	}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	writeJSONAs(w, answerHeader, status, body)
}

func writeJSONAs(w http.ResponseWriter, header http.Header, status int, body any) {
	// Encoded before the header is sent, so that a failure can still be told.
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	writeEncoded(w, header, status, encoded)
}

func writeEncoded(w http.ResponseWriter, header http.Header, status int, body []byte) {
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	// Fails only where nobody reads the answer any more.
	_, _ = w.Write(append(body, '\n'))
}

// writeCreated is put together by hand because it is most of what the api says:
// json.Marshal takes three times as long.
func writeCreated(w http.ResponseWriter, ride Ride) {
	w.Header()["Location"] = []string{"/rides/" + strconv.FormatInt(ride.ID, 10)}
	body := make([]byte, 0, 256)
	body = append(body, `{"message":"Payment accepted. Your pilot is on their way! distance=`...)
	body = append(body, ride.Distance.rounded()...)
	body = append(body, `m","id":`...)
	body = strconv.AppendInt(body, ride.ID, 10)
	body = append(body, `,"distance":`...)
	body = append(body, ride.Distance.String()...)
	body = append(body, `,"created_at":"`...)
	body = ride.CreatedAt.AppendFormat(body, time.RFC3339Nano)
	body = append(body, `"}`...)
	writeEncoded(w, answerHeader, http.StatusCreated, body)
}

func writeError(w http.ResponseWriter, status int, message string) {
	if rec, ok := w.(*recorder); ok && asksForProblem(rec.accept) {
		writeJSONAs(w, problemHeader, status, newProblem(status, message))
		return
	}
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{message})
}

func writeNothingHere(w http.ResponseWriter) {
	writeError(w, http.StatusNotFound, "There is nothing at this path.")
}

// fail answers a request that could not be done. Clients learn what they can do
// about it; what went wrong inside goes to the log alone.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refused *requestError
	var parameter *ParameterError
	switch {
	case errors.As(err, &refused):
		if refused.status == http.StatusRequestEntityTooLarge || refused.status == http.StatusRequestTimeout {
			// The rest of the body is still on its way; do not wait for it.
			w.Header().Set("Connection", "close")
		}
		writeError(w, refused.status, refused.message)
	case errors.As(err, &parameter):
		writeError(w, http.StatusUnprocessableEntity, parameter.Message)
	case errors.Is(err, errKeyReused):
		writeError(w, http.StatusUnprocessableEntity, "This Idempotency-Key came with another request before.")
	case errors.Is(err, errInFlight):
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusConflict, "The request that this Idempotency-Key came with has no answer yet.")
	case errors.Is(err, errShed):
		a.refuse(w, r, poolExhausted)
	case errors.Is(err, ErrRideNotFound):
		writeError(w, http.StatusNotFound, "There is no ride with this id.")
	case errors.Is(err, ErrOutcomeUnknown):
		// No Retry-After of its own: without a key, a retry might book it again.
		a.logFailure(r, slog.LevelError, err)
		message := "The database was lost while it saved the ride: the ride may or may not exist."
		if errors.Is(err, postgres.ErrUnconfirmed) {
			message = "The database's standby has not confirmed the ride: the ride may or may not last."
		}
		writeError(w, http.StatusServiceUnavailable, message)
	case errors.Is(r.Context().Err(), context.Canceled):
		// The client left, or the api was told to stop at once. The write is for
		// the latter.
		writeError(w, http.StatusServiceUnavailable, "The request was cut off.")
	default:
		a.failDatabase(w, r, err)
	}
}

func (a *API) failDatabase(w http.ResponseWriter, r *http.Request, err error) {
	reason := unavailable(err)
	if reason == "" {
		a.logFailure(r, slog.LevelError, err)
		writeError(w, http.StatusInternalServerError, "Internal server error.")
		return
	}
	if dropped, ok := a.outages.pass(time.Now()); ok {
		a.logFailure(r, slog.LevelWarn, err, "more_since_last", dropped)
	}
	w.Header().Set("Retry-After", "1")
	writeError(w, http.StatusServiceUnavailable, reason)
}

func (a *API) logFailure(r *http.Request, level slog.Level, err error, more ...any) {
	a.logRequest(r, level, "request failed", append([]any{"err", err}, more...)...)
}

// logRequest writes every line that is about one request.
func (a *API) logRequest(r *http.Request, level slog.Level, says string, more ...any) {
	attrs := append([]any{"method", r.Method, "path", r.URL.Path}, more...)
	if caller := callerOf(r.Context()); caller != everyone {
		attrs = append(attrs, "caller", caller)
	}
	a.cfg.Log.Log(r.Context(), level, says, append(attrs, "request_id", requestID(r.Context()))...)
}

func (a *API) recovered(w *recorder, r *http.Request, v any) {
	if v == http.ErrAbortHandler { //nolint:errorlint // net/http compares it this way too
		panic(v)
	}
	a.logRequest(r, slog.LevelError, "handler panicked", "err", v, "stack", string(debug.Stack()))
	if w.status != 0 {
		// Half an answer is out already: cut it off rather than let it pass for whole.
		panic(http.ErrAbortHandler)
	}
	writeError(w, http.StatusInternalServerError, "Internal server error.")
}
