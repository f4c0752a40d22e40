package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const secret, another = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

// TestSignature has the example of the specification's own libraries.
func TestSignature(t *testing.T) {
	t.Parallel()
	secrets, err := ParseSecrets(another + "\n" + secret + "\n")
	if err != nil {
		t.Fatal(err)
	}
	mac := secrets[1].sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if got := base64.StdEncoding.EncodeToString(mac); got != "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("the signature is %s", got)
	}
	for _, bad := range []string{"", " \n", "whsec_c2hvcnQ=", "whsec_?", "whsk_" + secret[6:], secret + " x"} {
		if _, err := ParseSecrets(bad); err == nil || strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// signedBy says whether a request is signed with a secret, by the specification alone.
func signedBy(secret string, h http.Header, body []byte) bool {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, h.Get("webhook-id")+"."+h.Get("webhook-timestamp")+"."+string(body))
	for signature := range strings.FieldsSeq(h.Get("webhook-signature")) {
		if signature == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			return true
		}
	}
	return false
}

// posting is a receiver, and what delivers one record to it.
func posting(t *testing.T, answer http.HandlerFunc, change func(*Config, *httptest.Server), start func(*httptest.Server)) (deliver func() error) {
	t.Helper()
	server := httptest.NewUnstartedServer(answer)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	start(server)
	t.Cleanup(server.Close)
	secrets, err := ParseSecrets(secret + " " + another)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{URL: server.URL + "/hook?token=hidden", Format: Structured, Secrets: secrets, Timeout: await.Patience}
	change(&cfg, server)
	hook, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hook.Close)
	transport := hook.client.Transport.(*http.Transport) // which waits for a connection as long
	transport.DialContext, transport.TLSHandshakeTimeout = new(net.Dialer).DialContext, await.Patience
	log := logtest.NewMemory()
	if _, err := log.Claim(t.Context(), unilog.Term{Partitions: 1, LogID: logID, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	log.Put(unilog.Entry{Record: entry().Record, Offset: 1})
	checkpoints, err := deliverer.OpenFileCheckpoints(filepath.Join(t.TempDir(), "checkpoints"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = checkpoints.Close() })
	d, err := deliverer.New(deliverer.Config{
		Name: "hook", Log: log, Deliver: hook.Deliver, Checkpoints: checkpoints, Attempts: 1, Timeout: hook.CallTimeout(),
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() error { _, err := d.RunOnce(t.Context()); return err }
}

func unchanged(*Config, *httptest.Server) {}

// TestAnswers sees what becomes of a record after each sort of answer. A failure that is
// counted is the last attempt.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		200: "delivered", 202: "delivered", 204: "delivered",
		302: "redirects are not followed", 304: "redirects are not followed", 308: "to https://new.example/hook?…: redirects",
		400: "rejected", 401: "rejected", 404: "rejected", 422: "Entity: no such product", 410: errGone.Error(),
		500: "rejected", 501: "rejected",
		408: "again", 425: "again", 429: "again", 502: "again", 503: "again", 504: "again",
	} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			requests := 0
			deliver := posting(t, func(w http.ResponseWriter, q *http.Request) {
				requests++
				body, _ := io.ReadAll(q.Body)
				at, err := strconv.ParseInt(q.Header.Get("webhook-timestamp"), 10, 64)
				if !signedBy(secret, q.Header, body) || !signedBy(another, q.Header, body) || err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Hour ||
					q.Header.Get("webhook-id") != logID+"/0/1" || q.URL.String() != "/hook?token=hidden" || q.Method != http.MethodPost {
					t.Errorf("%s %s %v", q.Method, q.URL, q.Header)
				}
				if code == 308 {
					w.Header().Set("Location", "https://user:password@new.example/hook?token=hidden")
				}
				w.WriteHeader(code)
				io.WriteString(w, "no\n\x00such product"+strings.Repeat(" no", 100_000))
			}, unchanged, (*httptest.Server).Start)
			err := deliver()
			if code == http.StatusGone {
				err = deliver() // which posts nothing
			}
			if err != nil && (strings.Contains(err.Error(), "hidden") || len(err.Error()) > 500) {
				t.Errorf("it says %v", err)
			}
			var rejected *unilog.RejectedError
			got := "delivered"
			switch {
			case errors.As(err, &rejected) && strings.Contains(err.Error(), want):
				got = want
			case errors.As(err, &rejected):
				got = "rejected"
			case err != nil:
				got = "again"
			}
			if got != want || requests != 1 {
				t.Errorf("%s after %d requests (%v), want %s", got, requests, err, want)
			}
		})
	}
}

// TestReceiverThatGivesNoAnswer blames no record.
func TestReceiverThatGivesNoAnswer(t *testing.T) {
	t.Parallel()
	ok := func(http.ResponseWriter, *http.Request) {}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		change func(*Config, *httptest.Server)
		start  func(*httptest.Server)
		want   string
	}{
		"slow": {func(_ http.ResponseWriter, q *http.Request) {
			io.Copy(io.Discard, q.Body)
			<-q.Context().Done() // it has gone
		}, func(c *Config, _ *httptest.Server) { c.Timeout = 10 * time.Millisecond }, (*httptest.Server).Start, "has not answered within 10ms"},
		"reset":   {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, unchanged, (*httptest.Server).Start, "EOF"},
		"refused": {ok, func(_ *Config, s *httptest.Server) { s.Close() }, (*httptest.Server).Start, "connection refused"},
		"unknown": {ok, unchanged, (*httptest.Server).StartTLS, "see --ca-file"},
		"trusted": {ok, func(c *Config, s *httptest.Server) {
			c.RootCAs = x509.NewCertPool()
			c.RootCAs.AddCert(s.Certificate())
		}, (*httptest.Server).StartTLS, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := posting(t, test.answer, test.change, test.start)()
			var rejected *unilog.RejectedError
			if errors.As(err, &rejected) || (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("it says %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("it tells a secret: %v", err)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"soon":                          0,
		"-1":                            0,
		"99999999999999999999":          0,
		"0":                             0,
		"120":                           2 * time.Minute,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second,
		"Fri, 02 Jan 2026 03:03:35 GMT": 0,
	} {
		got, ok := retryAfter(header, now)
		if !ok {
			got = 0
		}
		if got != want || ok != (want > 0) {
			t.Errorf("%q is %v, want %v", header, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{URL: "ftp://a/", Format: Plain}, "URL"},
		{Config{URL: "/hook", Format: Plain}, "URL"},
		{Config{URL: "https://a/", Format: "xml"}, "format"},
		{Config{URL: "https://a/", Format: Plain, Source: "a b"}, "source"},
		{Config{URL: "https://a/", Format: Plain, Timeout: 1}, "timeout"},
	} {
		if _, err := New(test.cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
	}
}
