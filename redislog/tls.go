package redislog

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"
)

// useFiles reads the files that a URL with TLS names: in cacert the authorities
// to trust instead of the system's, in cert and key the client's certificate.
// They are called as redis-cli calls them.
func useFiles(config *tls.Config, query url.Values) error {
	ca, cert, key := query.Get("cacert"), query.Get("cert"), query.Get("key")
	switch {
	case ca == "" && cert == "" && key == "":
		return nil
	case config == nil:
		return errors.New("redislog: the Redis URL has cacert, cert or key, but is not of TLS: let it begin with rediss")
	case (cert == "") != (key == ""):
		return errors.New("redislog: the Redis URL needs both cert and key, or neither")
	}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return fmt.Errorf("redislog: cacert in the Redis URL: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("redislog: cacert in the Redis URL: %s has no certificate in PEM form", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("redislog: cert %s and key %s in the Redis URL: %s", cert, key, strings.TrimPrefix(err.Error(), "tls: "))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// dialTLS also waits for a first answer. Redis judges the client's certificate
// when the handshake is over for the client, and what the client sends next
// would fail before it has read why.
func dialTLS(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
	conn, err := (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(dialer.Timeout))
	if err == nil {
		_, _ = conn.Write([]byte("PING\r\n")) // the read tells why if it fails
		// Any answer will do, such as that a password is required.
		_, err = bufio.NewReader(conn).ReadString('\n')
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
