package redislog

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
)

// TestTLS opens a log in a Redis that takes no client without a certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	authority, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	_, port, _ := net.SplitHostPort(testenv.TLSRedis(t, authority))
	clientCert, clientKey := authority.Issue("client")
	strangerCert, strangerKey := stranger.Issue("client")
	empty, missing := filepath.Join(t.TempDir(), "empty"), filepath.Join(t.TempDir(), "missing")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const password = "open-sesame"
	address := func(scheme, host string, files ...string) string {
		query := url.Values{}
		for i, name := range []string{"cacert", "cert", "key"} {
			if files[i] != "" {
				query.Set(name, files[i])
			}
		}
		return testenv.PatientRedis(fmt.Sprintf("%s://default:%s@%s/0?%s", scheme, password, net.JoinHostPort(host, port), query.Encode()))
	}

	log, err := Open(t.Context(), address("rediss", "127.0.0.1", authority.File, clientCert, clientKey), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if head, err := log.Head(t.Context(), 0); err != nil || head.Offset != 0 {
		t.Errorf("a new log's head is %+v, %v", head, err)
	}

	for name, c := range map[string]struct{ url, says string }{
		"the server's authority is not trusted": {
			address("rediss", "127.0.0.1", stranger.File, clientCert, clientKey), "certificate signed by unknown authority",
		},
		"the system's authorities alone": {
			address("rediss", "127.0.0.1", "", clientCert, clientKey), "certificate signed by unknown authority",
		},
		"another host": {
			address("rediss", "localhost", authority.File, clientCert, clientKey), "not valid for any names, but wanted to match localhost",
		},
		"no client certificate": {
			address("rediss", "127.0.0.1", authority.File, "", ""), "certificate required",
		},
		"a client certificate of another authority": {
			address("rediss", "127.0.0.1", authority.File, strangerCert, strangerKey), "unknown certificate authority",
		},
		"files without TLS": {
			address("redis", "127.0.0.1", authority.File, "", ""), "let it begin with rediss",
		},
		"a certificate without a key": {
			address("rediss", "127.0.0.1", "", clientCert, ""), "needs both cert and key",
		},
		"a key without a certificate": {
			address("rediss", "127.0.0.1", "", "", clientKey), "needs both cert and key",
		},
		"a key that does not fit": {
			address("rediss", "127.0.0.1", "", clientCert, strangerKey),
			"cert " + clientCert + " and key " + strangerKey + " in the Redis URL: private key does not match public key",
		},
		"no such certificate": {
			address("rediss", "127.0.0.1", "", missing, clientKey), "open " + missing + ": no such file",
		},
		"no such authority": {
			address("rediss", "127.0.0.1", missing, "", ""), "cacert in the Redis URL: open " + missing + ": no such file",
		},
		"an authority that is none": {
			address("rediss", "127.0.0.1", empty, "", ""), empty + " has no certificate in PEM form",
		},
	} {
		log, err := Open(t.Context(), c.url, "stream")
		if err == nil {
			log.Close()
			t.Errorf("%s: opened", name)
			continue
		}
		if says := err.Error(); !strings.Contains(says, c.says) || strings.Contains(says, "\n") || strings.Contains(says, password) {
			t.Errorf("%s: %v; want one line with %q and no password", name, err, c.says)
		}
	}
}
