package rides

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
)

const (
	requestIDHeader = "X-Request-Id"
	maxRequestID    = 64
)

type requestIDKey struct{}

// identified gives a request its id, for its answer and its log lines: the
// client's own if that is fit for a log, or a new one.
func identified(w http.ResponseWriter, r *http.Request) *http.Request {
	id := r.Header.Get(requestIDHeader)
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, unsafeInID) {
		id = rand.Text()
	}
	w.Header()[requestIDHeader] = []string{id}
	return r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
}

func unsafeInID(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.", c)
}

// requestID is that of [identified], "" before.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
