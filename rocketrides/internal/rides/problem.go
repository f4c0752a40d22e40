package rides

import (
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const problemType = "application/problem+json"

var problemHeader = headerFor(problemType)

// problem is an error as RFC 9457 has it, beside the field that all clients get.
type problem struct {
	Error  string `json:"error"`
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func newProblem(status int, message string) problem {
	// Of this type, the title is the name of the status.
	return problem{message, "about:blank", http.StatusText(status), status, message}
}

// asksForProblem tells whether an Accept header (RFC 9110, 12.5.1) names
// application/problem+json and likes application/json no better. A wildcard
// asks for nothing: whoever sends one gets what everyone gets.
func asksForProblem(accept []string) bool {
	quality := map[string]float64{}
	for _, line := range accept {
		for part := range strings.SplitSeq(line, ",") {
			mediaRange, parameters, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if text, ok := parameters["q"]; ok {
				q, err = strconv.ParseFloat(text, 64)
			}
			if err == nil && q >= 0 && q <= 1 {
				quality[mediaRange] = q
			}
		}
	}
	asked := quality[problemType]
	// The most specific range says how much application/json is liked.
	for _, mediaRange := range []string{"application/json", "application/*", "*/*"} {
		if q, ok := quality[mediaRange]; ok {
			return asked > 0 && asked >= q
		}
	}
	return asked > 0
}
