package rides

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// certificatePause is how long a certificate is served before its files are read
// again.
const certificatePause = time.Second

// certificate is the one in two files, as they change. It is safe for concurrent
// use.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu        sync.Mutex
	cert, key []byte // as in the files
	pair      *tls.Certificate
	read      time.Time
	trouble   string // why the files are not used, if they are not
}

// serverTLS serves the certificate in two files, of which one may be replaced
// before the other: until they fit, it serves what they held before.
func serverTLS(certFile, keyFile string, log *slog.Logger) (*tls.Config, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}, nil
}

func (c *certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) < certificatePause {
		return c.pair
	}
	trouble := ""
	if err := c.load(); err != nil {
		trouble = err.Error()
	}
	if trouble != "" && trouble != c.trouble {
		c.log.Warn("the TLS certificate's files have changed and are of no use: the one before is still served", "err", trouble)
	}
	c.trouble = trouble
	return c.pair
}

// load compares what is in the files, not their times: those may go back.
func (c *certificate) load() error {
	c.read = time.Now()
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("--tls-cert: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("--tls-key: %w", err)
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("--tls-cert %s and --tls-key %s: %s", c.certFile, c.keyFile, strings.TrimPrefix(err.Error(), "tls: "))
	}
	if c.pair != nil {
		c.log.Info("serving a new TLS certificate", "expires", pair.Leaf.NotAfter)
	}
	c.cert, c.key, c.pair = cert, key, &pair
	return nil
}

// trust reads the authorities to trust; nil, the system's, without a file.
func trust(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // a nil pool is the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--ca: %s has no certificate in PEM form", file)
	}
	return pool, nil
}
