package rides

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestPostRide(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, log := newAPI(t, pool)
	rides := 0
	for _, tc := range []struct {
		name, target, contentType, body string
		distance, rounded               string
	}{
		{"form", "/rides", formType, "distance=123.0", "123.0", "123.0"},
		{"form with charset", "/rides", formType + "; charset=UTF-8", "distance=123.0", "123.0", "123.0"},
		{"form beside other fields", "/rides", formType, "a=1&distance=7&b=2&b=3", "7", "7.0"},
		{"form with escapes", "/rides", formType, "dist%61nce=1e%2B3", "1000", "1000.0"},
		{"no content type", "/rides", "", "distance=5.25", "5.25", "5.3"},
		{"query", "/rides?distance=123.0", "", "", "123.0", "123.0"},
		{"query beside a form", "/rides?distance=123.0", formType, "x=1", "123.0", "123.0"},
		{"JSON number", "/rides", jsonType, `{"distance":123.0}`, "123.0", "123.0"},
		{"JSON string", "/rides", jsonType + "; charset=utf-8", `{"distance":"1.50"}`, "1.50", "1.5"},
		{"JSON beside others", "/rides", jsonType, ` {"x":{"distance":[1,{"y":2}]},"distance":1E3,"z":null} `, "1000", "1000.0"},
		{"JSON, every digit", "/rides", jsonType, `{"distance":123456789.123456789012345678901234567890}`, "123456789.123456789012345678901234567890", "123456789.1"},
		{"zero", "/rides", formType, "distance=0", "0", "0.0"},
		{"the most", "/rides", formType, "distance=1e9", "1000000000", "1000000000.0"},
		{"largest body", "/rides", formType, "distance=1&x=" + strings.Repeat("y", maxBodyBytes-len("distance=1&x=")), "1", "1.0"},
	} {
		w := request(api, http.MethodPost, tc.target, tc.contentType, tc.body)
		var got struct {
			Message  string
			ID       int64
			Distance json.Number
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusCreated {
			t.Errorf("%s: answered %d %s", tc.name, w.Code, w.Body)
			continue
		}
		rides++
		if want := "Payment accepted. Your pilot is on their way! distance=" + tc.rounded + "m"; got.Message != want {
			t.Errorf("%s: message %q; want %q", tc.name, got.Message, want)
		}
		if got.Distance.String() != tc.distance {
			t.Errorf("%s: distance %s; want %s", tc.name, got.Distance, tc.distance)
		}
		location := w.Header().Get("Location")
		if want := fmt.Sprintf("/rides/%d", got.ID); location != want {
			t.Errorf("%s: Location %q; want %q", tc.name, location, want)
		}
		shown := request(api, http.MethodGet, location, "", "")
		if want := fmt.Sprintf(`{"id":%d,"distance":%s,"created_at":"`, got.ID, tc.distance); shown.Code != 200 || !strings.HasPrefix(shown.Body.String(), want) {
			t.Errorf("%s: GET answered %d %s; want it to begin %s", tc.name, shown.Code, shown.Body, want)
		}
	}
	wantRides(t, pool, rides)
	if log.String() != "" {
		t.Errorf("logged:\n%s", log)
	}
}

// TestPostRideBody pins the start of the body, which clients may rely on.
func TestPostRideBody(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, newDatabase(t))
	w := request(api, http.MethodPost, "/rides", formType, "distance=123.0")
	want := `{"message":"Payment accepted. Your pilot is on their way! distance=123.0m","id":1,"distance":123.0,"created_at":"`
	if w.Code != http.StatusCreated || !strings.HasPrefix(w.Body.String(), want) {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// TestCreatedIsJSON compares what is put together by hand.
func TestCreatedIsJSON(t *testing.T) {
	t.Parallel()
	for text, at := range map[string]time.Time{
		"123.0": time.Unix(1700000000, 0).UTC(), "0.05": time.Unix(1700000000, 120000000).UTC(), "1e9": time.Unix(0, 1000).UTC(),
	} {
		ride := Ride{ID: 9223372036854775807, Distance: mustParse(t, text), CreatedAt: at}
		want, err := json.Marshal(struct {
			Message string `json:"message"`
			Ride
		}{"Payment accepted. Your pilot is on their way! distance=" + ride.Distance.rounded() + "m", ride})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		writeCreated(w, ride)
		if got := w.Body.String(); got != string(want)+"\n" {
			t.Errorf("%s is answered %s; want %s", text, got, want)
		}
	}
}

func TestPostRideRefusesDistance(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	const once = "Parameter 'distance' must be given only once."
	for _, tc := range []struct{ target, contentType, body, want string }{
		{"/rides", "", "", msgMissing},
		{"/rides", formType, "", msgMissing},
		{"/rides", formType, "distance=", msgMissing},
		{"/rides", formType, "Distance=1", msgMissing},
		{"/rides", formType, "distance[]=1", msgMissing},
		{"/rides?distance=", "", "", msgMissing},
		{"/rides", jsonType, "", msgMissing},
		{"/rides", jsonType, "{}", msgMissing},
		{"/rides", jsonType, `{"distance":null}`, msgMissing},
		{"/rides", jsonType, `{"distance":""}`, msgMissing},
		{"/rides", jsonType, `{"Distance":1}`, msgMissing},
		{"/rides", formType, "distance=foo", msgNotNumber},
		{"/rides", formType, "distance=+1", msgNotNumber}, // a space, once decoded
		{"/rides", formType, "distance=%2B1", msgNotNumber},
		{"/rides", formType, "distance=NaN", msgNotNumber},
		{"/rides", jsonType, `{"distance":true}`, msgNotNumber},
		{"/rides", jsonType, `{"distance":[1]}`, msgNotNumber},
		{"/rides", jsonType, `{"distance":{"distance":1}}`, msgNotNumber},
		{"/rides", jsonType, `{"distance":" 1"}`, msgNotNumber},
		{"/rides", formType, "distance=-1", msgRange},
		{"/rides", jsonType, `{"distance":-0}`, msgRange},
		{"/rides", jsonType, `{"distance":1e999999999}`, msgRange},
		{"/rides", formType, "distance=1e-31", msgPlaces},
		{"/rides", formType, "distance=" + strings.Repeat("1", 41), msgChars},
		{"/rides", formType, "distance=1&distance=1", once},
		{"/rides", formType, "distance=&distance=1", once},
		{"/rides?distance=1", formType, "distance=1", once},
		{"/rides?distance=1&distance=1", "", "", once},
		{"/rides?distance=1", jsonType, `{"distance":1}`, once},
		{"/rides", jsonType, `{"distance":1,"distance":1}`, once},
		{"/rides", jsonType, `{"distance":null,"dist\u0061nce":1}`, once},
		{"/rides", jsonType, `{"distance":1,"x":1,"x":2}`, "Parameter 'x' must be given only once."},
	} {
		wantError(t, request(api, http.MethodPost, tc.target, tc.contentType, tc.body), http.StatusUnprocessableEntity, tc.want)
		if t.Failed() {
			t.Fatalf("for %+v", tc)
		}
	}
	wantRides(t, pool, 0)
}

func TestPostRideRefusesRequest(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	const (
		notJSON  = "The request's body must be a JSON object."
		typeText = "The request's content type must be application/x-www-form-urlencoded or application/json."
		tooLarge = "The request's body must be at most 4096 bytes."
	)
	for _, tc := range []struct {
		target, contentType, body string
		status                    int
		want                      string
	}{
		{"/rides", jsonType, `{"distance":1} x`, 400, notJSON},
		{"/rides", jsonType, `{"distance":1}{}`, 400, notJSON},
		{"/rides", jsonType, `{"distance":1,}`, 400, notJSON},
		{"/rides", jsonType, `{"distance":01}`, 400, notJSON},
		{"/rides", jsonType, `{"distance":NaN}`, 400, notJSON},
		{"/rides", jsonType, `{"distance":`, 400, notJSON},
		{"/rides", jsonType, `[{"distance":1}]`, 400, notJSON},
		{"/rides", jsonType, `1`, 400, notJSON},
		{"/rides", jsonType, `null`, 400, notJSON},
		{"/rides", jsonType, `distance=1`, 400, notJSON},
		{"/rides", formType, "distance=%zz", 400, "The request's body is not valid form encoding."},
		{"/rides?distance=%zz", formType, "", 400, "The query string is not valid form encoding."},
		{"/rides", "text/plain", "distance=1", 415, typeText},
		{"/rides", "multipart/form-data; boundary=x", "distance=1", 415, typeText},
		{"/rides", "application/", "distance=1", 415, typeText},
		{"/rides", formType, "distance=1&x=" + strings.Repeat("y", maxBodyBytes), 413, tooLarge},
		{"/rides", jsonType, strings.Repeat(" ", maxBodyBytes+1), 413, tooLarge},
	} {
		wantError(t, request(api, http.MethodPost, tc.target, tc.contentType, tc.body), tc.status, tc.want)
		if t.Failed() {
			t.Fatalf("for %+v", tc)
		}
	}

	r := httptest.NewRequest(http.MethodPost, "/rides", strings.NewReader("distance=1"))
	r.Header.Set("Content-Encoding", "gzip")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	wantError(t, w, 415, "The request's body must not be compressed.")

	// Chunked, so that only reading shows how large it is.
	r = httptest.NewRequest(http.MethodPost, "/rides", strings.NewReader("distance=1&x="+strings.Repeat("y", maxBodyBytes)))
	r.ContentLength = -1
	w = httptest.NewRecorder()
	api.ServeHTTP(w, r)
	wantError(t, w, 413, tooLarge)
	wantRides(t, pool, 0)
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, newDatabase(t))
	const badID = "A ride's id must be a whole number from 1 to 9223372036854775807."
	for _, tc := range []struct {
		method, path string
		status       int
		allow, want  string
	}{
		{"GET", "/rides/1", 404, "", "There is no ride with this id."},
		{"GET", "/rides/9223372036854775807", 404, "", "There is no ride with this id."},
		{"GET", "/rides/9223372036854775808", 400, "", badID},
		{"GET", "/rides/0", 400, "", badID},
		{"GET", "/rides/-1", 400, "", badID},
		{"GET", "/rides/+1", 400, "", badID},
		{"GET", "/rides/01", 400, "", badID},
		{"GET", "/rides/1_0", 400, "", badID},
		{"GET", "/rides/x", 400, "", badID},
		{"GET", "/rides/%D9%A1", 400, "", badID},
		{"GET", "/", 404, "", "There is nothing at this path."},
		{"GET", "/rides/", 404, "", "There is nothing at this path."},
		{"POST", "//rides", 404, "", "There is nothing at this path."},
		{"POST", "/rides/", 404, "", "There is nothing at this path."},
		{"GET", "/rides/1/x", 404, "", "There is nothing at this path."},
		{"GET", "/x/../rides/1", 404, "", "There is nothing at this path."},
		{"GET", "/rides", 405, "POST", "This path takes POST only."},
		{"DELETE", "/rides/1", 405, "GET, HEAD", "This path takes GET, HEAD only."},
		{"OPTIONS", "/rides", 405, "POST", "This path takes POST only."},
		{"POST", "/healthz", 405, "GET, HEAD", "This path takes GET, HEAD only."},
		{"PUT", "/readyz", 405, "GET, HEAD", "This path takes GET, HEAD only."},
	} {
		w := request(api, tc.method, tc.path, "", "")
		wantError(t, w, tc.status, tc.want)
		if got := w.Header().Get("Allow"); got != tc.allow {
			t.Errorf("Allow is %q; want %q", got, tc.allow)
		}
		if t.Failed() {
			t.Fatalf("for %+v", tc)
		}
	}
	for path, want := range map[string]string{"/healthz": `{"status":"ok"}`, "/readyz": `{"ready":true}`} {
		for _, method := range []string{"GET", "HEAD"} {
			if w := request(api, method, path, "", ""); w.Code != 200 || w.Body.String() != want+"\n" {
				t.Errorf("%s %s answered %d %s", method, path, w.Code, w.Body)
			}
		}
	}
}

func TestVerbose(t *testing.T) {
	t.Parallel()
	api, log := newAPI(t, newDatabase(t), func(c *APIConfig) { c.Verbose = true })
	request(api, http.MethodPost, "/rides", formType, url.Values{"distance": {"1"}}.Encode())
	request(api, http.MethodGet, "/nothing", "", "")
	for _, want := range []string{"method=POST path=/rides status=201 duration=", "method=GET path=/nothing status=404 duration="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}
