package rides

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// tokensFile makes one of lines, in which TOKEN:x stands for the hash of x.
func tokensFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	writeTokens(t, file, text)
	return file
}

func writeTokens(t *testing.T, file, text string) {
	t.Helper()
	words := strings.Split(text, "TOKEN:")
	for i, word := range words[1:] {
		token, rest, _ := strings.Cut(word, "\n")
		words[i+1] = hashOf(token) + "\n" + rest
	}
	if err := os.WriteFile(file, []byte(strings.Join(words, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func withTokens(file string) func(*APIConfig) {
	return func(c *APIConfig) { c.TokensFile = file }
}

// requestAs sends a request with Authorization headers.
func requestAs(h http.Handler, method, target string, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.Header["Authorization"] = authorization
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, withTokens(tokensFile(t, "# two of one, for a change\nalice TOKEN:a-1\n\nalice TOKEN:a-2==\n\tbob   TOKEN:b\n")))
	const (
		challenge = `Bearer realm="Rocket Rides"`
		please    = "Please authenticate with 'Authorization: Bearer TOKEN'."
		malformed = "Header 'Authorization' must be 'Bearer' and one token."
	)
	for _, good := range []string{"Bearer a-1", "Bearer a-2==", "bearer b", "BEARER   b"} {
		if w := requestAs(api, http.MethodPost, "/rides?distance=1", good); w.Code != http.StatusCreated || w.Header().Get("WWW-Authenticate") != "" {
			t.Errorf("%q is answered %d %s", good, w.Code, w.Body)
		}
	}
	for _, c := range []struct {
		given              []string
		status             int
		challenge, message string
	}{
		{nil, 401, "", please},
		{[]string{""}, 401, "", please},
		{[]string{"Basic YWxpY2U6YQ=="}, 401, "", please},
		{[]string{"a-1"}, 401, "", please},
		{[]string{"Bearera-1"}, 401, "", please},
		{[]string{"Bearer,a-1"}, 401, "", please},
		{[]string{"Bearer"}, 400, "invalid_request", malformed},
		{[]string{"Bearer "}, 400, "invalid_request", malformed},
		{[]string{"Bearer a-1 b"}, 400, "invalid_request", malformed},
		{[]string{"Bearer a-1, Bearer b"}, 400, "invalid_request", malformed},
		{[]string{`Bearer "a-1"`}, 400, "invalid_request", malformed},
		{[]string{"Bearer \ta-1"}, 400, "invalid_request", malformed},
		{[]string{"Bearer =a"}, 400, "invalid_request", malformed},
		{[]string{"Bearer a=1"}, 400, "invalid_request", malformed},
		{[]string{"Bearer ä"}, 400, "invalid_request", malformed},
		{[]string{"Bearer a-1", "Bearer b"}, 400, "invalid_request", "Header 'Authorization' must be given only once."},
		{[]string{"", "Bearer b"}, 400, "invalid_request", "Header 'Authorization' must be given only once."},
		{[]string{"Bearer a-2"}, 401, "invalid_token", "The token is not valid."},
		{[]string{"Bearer A-1"}, 401, "invalid_token", "The token is not valid."},
		{[]string{"Bearer alice"}, 401, "invalid_token", "The token is not valid."},
		{[]string{"Bearer " + hashOf("b")}, 401, "invalid_token", "The token is not valid."},
		{[]string{"Bearer " + strings.Repeat("x", 8<<10)}, 401, "invalid_token", "The token is not valid."},
	} {
		want := challenge
		if c.challenge != "" {
			want += `, error="` + c.challenge + `"`
		}
		// What is not there is not told from what is.
		for _, target := range []string{"/rides?distance=1", "/nothing", "/healthz/", "/rides/1", "/metrics"} {
			w := requestAs(api, http.MethodPost, target, c.given...)
			wantError(t, w, c.status, c.message)
			if got := w.Header().Values("WWW-Authenticate"); len(got) != 1 || got[0] != want {
				t.Errorf("%.40q at %s is challenged with %q; want %s", c.given, target, got, want)
			}
		}
	}
	for _, open := range []string{"/healthz", "/readyz", "/openapi.yaml"} {
		if w := requestAs(api, http.MethodGet, open, "Bearer x", "Bearer y"); w.Code != http.StatusOK {
			t.Errorf("%s is answered %d %s", open, w.Code, w.Body)
		}
	}
	wantRides(t, pool, 4)
}

// TestTokensFileIsWrong sees that the error names the line, and has nothing of
// what is in it.
func TestTokensFileIsWrong(t *testing.T) {
	t.Parallel()
	good := hashOf("x")
	for text, says := range map[string]string{
		"":                                     "it has no token",
		"# alice TOKEN:a\n":                    "it has no token",
		"alice":                                "line 1: it must be a caller's name and",
		"alice  " + good + "  -":               "line 1: it must be a caller's name and",
		"a " + good + "\r\n\r\nsecret":         "line 3: it must be a caller's name and",
		good:                                   "line 1: it must be a caller's name and",
		"\n#\nalice secret":                    "line 3: the SHA-256 of a token must be 64 hexadecimal digits",
		"alice " + good[:62]:                   "line 1: the SHA-256",
		"alice " + good[:62] + "zz":            "line 1: the SHA-256",
		"alice " + good + "00":                 "line 1: the SHA-256",
		"se/cret " + good:                      "line 1: the caller's name must be at most 64 of A-Z",
		strings.Repeat("s", 65) + " " + good:   "line 1: the caller's name",
		"alice " + good + "\nsecret " + good:   "line 2: it has the token of line 1",
		"alice TOKEN:x\nbob TOKEN:y\nsecret x": "line 3: the SHA-256",
	} {
		file := tokensFile(t, text)
		_, err := NewAPI(APIConfig{DB: brokenDatabase{}, TokensFile: file})
		if err == nil || !strings.Contains(err.Error(), "--tokens-file "+file+": "+says) {
			t.Errorf("with %q the error is %v; want %s", text, err, says)
			continue
		}
		for _, secret := range []string{"secret", "alice", good[:62], "sss"} {
			if strings.Contains(strings.TrimPrefix(err.Error(), "--tokens-file "+file), secret) {
				t.Errorf("the error has what is in the file: %v", err)
			}
		}
	}
	if _, err := NewAPI(APIConfig{DB: brokenDatabase{}, TokensFile: "/nowhere"}); err == nil || !strings.Contains(err.Error(), "--tokens-file: open /nowhere") {
		t.Errorf("without the file: %v", err)
	}
}

func TestTokensAreReloaded(t *testing.T) {
	t.Parallel()
	file := tokensFile(t, "alice TOKEN:old\n")
	api, log := newAPI(t, newDatabase(t), withTokens(file))
	takes := func(token string, want bool) {
		t.Helper()
		if w := requestAs(api, http.MethodPost, "/rides?distance=1", "Bearer "+token); (w.Code == http.StatusCreated) != want {
			t.Errorf("%s is answered %d %s", token, w.Code, w.Body)
		}
	}
	writeTokens(t, file, "alice TOKEN:old\nalice TOKEN:new\n")
	takes("new", false)
	api.ReloadTokens()
	takes("old", true)
	takes("new", true)

	writeTokens(t, file, "alice TOKEN:new\nbob secret\n")
	api.ReloadTokens()
	takes("old", true)
	takes("new", true)
	says := file + ": line 2: the SHA-256"
	if !strings.Contains(log.String(), "level=ERROR") || strings.Count(log.String(), says) != 1 || strings.Contains(log.String(), "secret") {
		t.Errorf("logged, want %q once:\n%s", says, log)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	api.ReloadTokens()
	takes("new", true)

	writeTokens(t, file, "alice TOKEN:new\n")
	if err := os.Chmod(file, 0o604); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.String(), "others may read") {
		t.Errorf("logged:\n%s", log)
	}
	api.ReloadTokens()
	takes("old", false)
	takes("new", true)
	if !strings.Contains(log.String(), "others may read") {
		t.Errorf("logged:\n%s", log)
	}
}

// TestKeysBelongToTheCaller sends one Idempotency-Key as several callers.
func TestKeysBelongToTheCaller(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a1\nalice TOKEN:a2\nbob TOKEN:b\n")))
	as := func(token, distance string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/rides?distance="+distance, nil)
		r.Header.Set("Idempotency-Key", "one")
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w
	}
	first := as("a1", "1")
	wantSame(t, first, as("a2", "1"))
	other := as("b", "2")
	wantSame(t, other, as("b", "2"))
	wantRides(t, pool, 2)
	// Rides have no owner.
	if w := requestAs(api, http.MethodGet, first.Header().Get("Location"), "Bearer b"); w.Code != http.StatusOK {
		t.Errorf("the ride of another caller is answered %d %s", w.Code, w.Body)
	}
}

// TestCallerIsLogged sees the caller's name in what is logged, and no token.
func TestCallerIsLogged(t *testing.T) {
	t.Parallel()
	api, log := newAPI(t, brokenDatabase{}, withTokens(tokensFile(t, "alice TOKEN:secret\n")), func(c *APIConfig) { c.Verbose = true })
	for _, given := range []string{"Bearer secret", "Bearer wrong-secret", "Bearer secret secret", "Basic secret"} {
		requestAs(api, http.MethodPost, "/rides?distance=1", given)
	}
	lines := strings.Split(log.String(), "\n")
	if !strings.Contains(lines[0], "request failed") || !strings.Contains(lines[1], "status=503") ||
		strings.Count(log.String(), "caller=alice") != 2 || strings.Contains(log.String(), "secret") {
		t.Errorf("logged:\n%s", log)
	}
}
