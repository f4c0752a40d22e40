package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rocketrides/unilog/deliverer"
)

// errGone is the answer 410: the receiver is to be left alone from then on.
var errGone = errors.New("the receiver has answered 410 Gone: it wants nothing more, so nothing is sent until this is started again, with another --to perhaps")

// maxSaid is how much of an answer's text an error quotes, in characters.
const maxSaid = 200

// verdict says what an answer means: delivered; to be tried again, and whether that
// counts as an attempt; in vain, for this record or for all.
func verdict(response *http.Response, said []byte, now time.Time) error {
	code := response.StatusCode
	err := fmt.Errorf("the receiver has answered %s%s", response.Status, quoted(said))
	switch {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusGone:
		return deliverer.Halt(errGone)
	case code >= 300 && code < 400:
		return deliverer.Halt(fmt.Errorf("the receiver has answered %s%s: redirects are not followed, so set --to to the URL that is right now",
			response.Status, location(response.Header.Get("Location"))))
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests,
		code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		err = deliverer.Unavailable(err) // which no record is to blame for
	case code < 500:
		return deliverer.Reject(err)
	}
	if wait, ok := retryAfter(response.Header.Get("Retry-After"), now); ok {
		return deliverer.RetryAfter(err, wait)
	}
	return err
}

// retryAfter reads a Retry-After header: seconds, or a date. One that is over asks for
// no wait in particular.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return wait, wait > 0
}

// quoted is the beginning of an answer's text, in one line.
func quoted(said []byte) string {
	text := strings.Join(strings.FieldsFunc(strings.ToValidUTF8(string(said), "\uFFFD"), func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r)
	}), " ")
	if runes := []rune(text); len(runes) > maxSaid {
		text = string(runes[:maxSaid]) + "…"
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

// location is where a redirect leads, without what may be a secret.
func location(header string) string {
	u, err := url.Parse(header)
	if header == "" || err != nil {
		return ""
	}
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return " to " + u.String()
}
