package rides

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// countingReader counts what is read of a body.
type countingReader struct {
	io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// parseRequest does what the api does before it asks the database.
func parseRequest(query, contentType, encoding string, body io.Reader, length int64) (Distance, error) {
	r := &http.Request{
		Method:        http.MethodPost,
		URL:           &url.URL{Path: "/rides", RawQuery: query},
		Header:        http.Header{"Content-Type": {contentType}, "Content-Encoding": {encoding}},
		Body:          io.NopCloser(body),
		ContentLength: length,
	}
	value, err := readParameter(httptest.NewRecorder(), r, "distance")
	if err != nil {
		return Distance{}, err
	}
	return ParseDistance(value)
}

// FuzzRequest sees that a request is refused with a 4xx and a sentence, or has
// a distance that can be sent again, and that no more of it is read than allowed.
func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ query, contentType, body string }{
		{"", formType, "distance=123.0"},
		{"", formType + "; charset=utf-8", "a=1&dist%61nce=1e%2B3;b"},
		{"distance=.5", "", ""},
		{"distance=1&distance=2", "", "x"},
		{"%zz", formType, "%"},
		{"", jsonType, `{"distance":123.0}`},
		{"", jsonType, `{"x":[{"distance":1}],"dist\u0061nce":"1e-30"}`},
		{"", jsonType, `{"distance":1,"distance":null}`},
		{"", jsonType, `{"distance":"\ud800"}`},
		{"", "text/plain; charset=\"", "\x00\xff"},
		{"distance=1", formType, strings.Repeat("x", maxBodyBytes+1)},
	} {
		f.Add(seed.query, seed.contentType, "", "application/json, "+problemType+";q=0.5", []byte(seed.body), true)
		f.Add(seed.query, seed.contentType, "gzip", problemType, []byte(seed.body), false)
	}
	api, err := NewAPI(APIConfig{DB: brokenDatabase{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query, contentType, encoding, accept string, content []byte, chunked bool) {
		body := &countingReader{Reader: bytes.NewReader(content)}
		length := int64(len(content))
		if chunked {
			length = -1
		}
		distance, err := parseRequest(query, contentType, encoding, body, length)
		// One byte more tells that there are too many.
		if body.n > maxBodyBytes+1 {
			t.Errorf("read %d bytes of the body", body.n)
		}
		if err != nil {
			wantRefusal(t, api, accept, err)
			return
		}
		if len(content) > maxBodyBytes {
			t.Errorf("took a body of %d bytes", len(content))
		}
		for mediaType, again := range map[string]string{
			formType: url.Values{"distance": {distance.String()}}.Encode(),
			jsonType: `{"distance":` + distance.String() + `}`,
		} {
			got, err := parseRequest("", mediaType, "", strings.NewReader(again), int64(len(again)))
			if err != nil || got != distance {
				t.Errorf("%s was taken, but as %s it is %s, %v", distance, again, got, err)
			}
		}
	})
}

// wantRefusal sees that an error is the client's, and told as such.
func wantRefusal(t *testing.T, api *API, accept string, err error) {
	t.Helper()
	w := httptest.NewRecorder()
	api.fail(&recorder{ResponseWriter: w, accept: []string{accept}}, httptest.NewRequest(http.MethodPost, "/rides", nil), err)
	var answer struct{ Error string }
	if decoded := json.Unmarshal(w.Body.Bytes(), &answer); decoded != nil || w.Code < 400 || w.Code > 499 || answer.Error == "" {
		t.Errorf("%v is answered %d %s", err, w.Code, w.Body)
	}
}
