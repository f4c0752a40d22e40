// Package tlsfiles reads the files that a log's URL names for TLS.
package tlsfiles

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// Use sets in config what a URL's parameters name: in cacert the authorities to
// trust instead of the system's, in cert and key the client's certificate. They
// are called as redis-cli calls them. Config is nil if the URL is not of TLS.
// Errors speak of the server's URL and of the scheme that it should have.
func Use(config *tls.Config, query url.Values, server, scheme string) error {
	ca, cert, key := query.Get("cacert"), query.Get("cert"), query.Get("key")
	switch {
	case ca == "" && cert == "" && key == "":
		return nil
	case config == nil:
		return fmt.Errorf("the %s URL has cacert, cert or key, but is not of TLS: let it begin with %s://", server, scheme)
	case (cert == "") != (key == ""):
		return fmt.Errorf("the %s URL needs both cert and key, or neither", server)
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("cacert in the %s URL: %w", server, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("cacert in the %s URL: %s has no certificate in PEM form", server, ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("cert %s and key %s in the %s URL: %s", cert, key, server, strings.TrimPrefix(err.Error(), "tls: "))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return nil
}
