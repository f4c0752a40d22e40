package rides

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/testenv"
)

// way is one by which clients reach the api.
type way struct {
	configure func(*APIConfig)
	newClient func(*testing.T) *http.Client
}

// eachWay runs a test over HTTP/1.1 and over HTTP/2, which takes TLS.
func eachWay(t *testing.T, test func(*testing.T, way)) {
	t.Helper()
	t.Run("HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		test(t, way{func(*APIConfig) {}, newClientFor})
	})
	t.Run("HTTP/2", func(t *testing.T) {
		t.Parallel()
		test(t, http2Way(t))
	})
}

// http2Way has clients that speak nothing but HTTP/2.
func http2Way(t *testing.T) way {
	t.Helper()
	authority := testenv.NewAuthority(t)
	authorities, err := trust(authority.File)
	if err != nil {
		t.Fatal(err)
	}
	return way{
		configure: func(c *APIConfig) { c.TLSCert, c.TLSKey = authority.Issue("api", "127.0.0.1") },
		newClient: func(t *testing.T) *http.Client {
			t.Helper()
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authorities}, Protocols: new(http.Protocols)}
			transport.Protocols.SetHTTP2(true)
			t.Cleanup(transport.CloseIdleConnections)
			return &http.Client{Transport: transport}
		},
	}
}

// TestHandlerEndsBeforeServe sees that nothing runs on that was cut off.
func TestHandlerEndsBeforeServe(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, w way) {
		api, _ := newAPI(t, brokenDatabase{}, w.configure)
		started := make(chan struct{})
		var ended atomic.Bool
		slow := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(started)
			<-r.Context().Done()
			time.Sleep(50 * time.Millisecond) // in which Serve could return
			ended.Store(true)
		})
		ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- httpserver.Server{Name: "slow", Handler: slow, ShutdownTimeout: time.Millisecond, Log: api.cfg.Log, TLS: api.tls}.Serve(ctx, ln)
		}()
		scheme := "http://"
		if api.tls != nil {
			scheme = "https://"
		}
		answered := postTo(t, w.newClient(t), scheme+ln.Addr().String())
		await.Receive(t, "the handler to begin", started)
		stop()
		if err := await.Receive(t, "serve to return", served); err == nil || !strings.Contains(err.Error(), "cut off 1 requests") || !ended.Load() {
			t.Errorf("serve returned %v, and the handler had ended: %v", err, ended.Load())
		}
		await.Receive(t, "the client's end", answered)
	})
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	w := http2Way(t)
	api, _ := newAPI(t, brokenDatabase{}, w.configure)
	base, _ := serve(t, api)
	config := w.newClient(t).Transport.(*http.Transport).TLSClientConfig
	for version, taken := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		config.MinVersion, config.MaxVersion = version, version
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", strings.TrimPrefix(base, "https://"))
		if (err == nil) != taken {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

// TestHTTP2HeaderLimit sees a large header refused: by the api, or by a client
// that has heard of the limit first.
func TestHTTP2HeaderLimit(t *testing.T) {
	t.Parallel()
	w := http2Way(t)
	api, _ := newAPI(t, brokenDatabase{}, w.configure)
	base, _ := serve(t, api)
	client := w.newClient(t)
	for size, want := range map[int]int{8: http.StatusOK, 64: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		for range size {
			r.Header.Add("X-Large", strings.Repeat("x", 1<<10))
		}
		resp, err := client.Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil && resp.StatusCode != want || err != nil && want == http.StatusOK {
			t.Errorf("a header of %d KiB: %v, %v", size, resp, err)
		}
	}
}

// TestCertificateIsReplaced replaces the key after the certificate, and then by
// what is none.
func TestCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("first", "127.0.0.1")
	log := new(buffer)
	config, err := serverTLS(cert, key, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	serves := func() string {
		pair, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.Subject.CommonName
	}
	until := func(says string) {
		t.Helper()
		await.That(t, "it to say "+says, func() string {
			if serves(); !strings.Contains(log.String(), says) {
				return "it says " + log.String()
			}
			return ""
		})
	}
	newCert, newKey := authority.Issue("second", "127.0.0.1")
	replace(t, cert, newCert)
	until("private key does not match public key")
	if name := serves(); name != "first" {
		t.Errorf("with half of the second, it serves the %s certificate", name)
	}
	replace(t, key, newKey)
	until("serving a new TLS certificate")
	if name := serves(); name != "second" {
		t.Errorf("it serves the %s certificate", name)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	until("--tls-key: open")
	if name := serves(); name != "second" {
		t.Errorf("without a key, it serves the %s certificate", name)
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 2 {
		t.Errorf("it warned %d times:\n%s", n, log)
	}
}

// replace puts a copy of a file in another's place.
func replace(t *testing.T, file, by string) {
	t.Helper()
	text, err := os.ReadFile(by)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUselessTLSFiles(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("api", "127.0.0.1")
	_, other := authority.Issue("other", "127.0.0.1")
	missing := filepath.Join(t.TempDir(), "missing")
	for says, files := range map[string][2]string{
		"--tls-cert: open " + missing + ": no such file":                                                      {missing, key},
		"--tls-key: open " + missing + ": no such file":                                                       {cert, missing},
		"--tls-cert " + cert + " and --tls-key " + other + ": private key does not match public key":          {cert, other},
		"--tls-cert " + key + " and --tls-key " + key + ": failed to find certificate PEM data":               {key, key},
		"--tls-cert " + cert + " and --tls-key " + cert + ": found a certificate rather than a key in the PE": {cert, cert},
	} {
		_, err := NewAPI(APIConfig{DB: brokenDatabase{}, TLSCert: files[0], TLSKey: files[1]})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %q", err, says)
		}
	}
	for says, cfg := range map[string]SimulatorConfig{
		"--ca: open " + missing + ": no such file": {URL: "https://h", CA: missing},
		key + " has no certificate in PEM form":    {URL: "https://h", CA: key},
		"--ca is for an api at https://":           {URL: "http://h", CA: authority.File},
	} {
		if _, err := NewSimulator(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %q", err, says)
		}
	}
}
