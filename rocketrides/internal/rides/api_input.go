package rides

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// maxBodyBytes is many times what the longest valid request needs.
const maxBodyBytes = 4 << 10

// requestError is a refusal: a status and words for whoever sent the request.
type requestError struct {
	status  int
	message string
}

func (e *requestError) Error() string { return e.message }

// readParameter returns the one value of a parameter, from the query string,
// a form or a JSON object, as it was written; empty if there is none.
func readParameter(w http.ResponseWriter, r *http.Request, name string) (string, error) {
	query, err := formValues(r.URL.RawQuery, name)
	if err != nil {
		return "", &requestError{http.StatusBadRequest, "The query string is not valid form encoding."}
	}
	values, err := readBody(w, r, name)
	if err != nil {
		return "", err
	}
	switch values = append(values, query...); len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	default:
		return "", parameterError(name, "must be given only once.")
	}
}

func readBody(w http.ResponseWriter, r *http.Request, name string) ([]string, error) {
	parse, err := bodyParser(r.Header)
	if err != nil {
		return nil, err
	}
	// Refused by its announced length, before a client that waits for a
	// 100 Continue has sent anything.
	if r.ContentLength > maxBodyBytes {
		return nil, errTooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(body) == 0 {
		return nil, nil
	}
	return parse(body, name)
}

var errTooLarge = &requestError{
	http.StatusRequestEntityTooLarge,
	"The request's body must be at most " + strconv.Itoa(maxBodyBytes) + " bytes.",
}

// unreadable is why a body could not be read.
func unreadable(err error) error {
	var tooMany *http.MaxBytesError
	switch {
	case errors.As(err, &tooMany):
		return errTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &requestError{http.StatusRequestTimeout, "The request's body took too long to arrive."}
	default:
		return &requestError{http.StatusBadRequest, "The request's body could not be read."}
	}
}

// bodyParser chooses by content type. A body without one is taken for a form,
// as the first version of this api took it.
func bodyParser(h http.Header) (func(body []byte, name string) ([]string, error), error) {
	for _, e := range h["Content-Encoding"] {
		if e != "" && e != "identity" {
			return nil, &requestError{http.StatusUnsupportedMediaType, "The request's body must not be compressed."}
		}
	}
	const form = "application/x-www-form-urlencoded"
	mediaType := form
	if header := strings.Join(h["Content-Type"], ", "); header != "" && header != form {
		var err error
		if mediaType, _, err = mime.ParseMediaType(header); err != nil {
			mediaType = "" // refused below, like two that are joined
		}
	}
	switch mediaType {
	case form:
		return parseForm, nil
	case "application/json":
		return parseJSON, nil
	default:
		return nil, &requestError{
			http.StatusUnsupportedMediaType,
			"The request's content type must be application/x-www-form-urlencoded or application/json.",
		}
	}
}

func parseForm(body []byte, name string) ([]string, error) {
	values, err := formValues(string(body), name)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, "The request's body is not valid form encoding."}
	}
	return values, nil
}

// formValues returns the values of a name in form encoding.
func formValues(text, name string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	// What nearly every request is: one field, and nothing to decode.
	if field, value, ok := strings.Cut(text, "="); ok && field == name && !strings.ContainsAny(value, "&;%+") {
		return []string{value}, nil
	}
	form, err := url.ParseQuery(text)
	return form[name], err
}

// parseJSON walks the tokens, because json.Unmarshal would keep the last of
// several members of one name and would turn numbers into float64.
func parseJSON(body []byte, name string) ([]string, error) {
	notObject := &requestError{http.StatusBadRequest, "The request's body must be a JSON object."}
	// Also refuses what follows the first value.
	if !json.Valid(body) {
		return nil, notObject
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, notObject
	}
	var values []string
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		member, ok := key.(string)
		if err != nil || !ok {
			return nil, notObject
		}
		if seen[member] {
			return nil, parameterError(member, "must be given only once.")
		}
		seen[member] = true
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, notObject
		}
		if member == name && value != nil {
			values = append(values, verbatim(value))
		}
	}
	return values, nil
}

// verbatim returns a JSON number or string as it was written. Anything else
// becomes a word that is no value of any parameter.
func verbatim(value any) string {
	switch v := value.(type) {
	case json.Number:
		return v.String()
	case string:
		return v
	default:
		return "not a scalar"
	}
}
