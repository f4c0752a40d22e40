package redislog

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/rocketrides/unilog/internal/tlsfiles"
)

// useFiles reads the files that a URL with TLS names.
func useFiles(config *tls.Config, query url.Values) error {
	if err := tlsfiles.Use(config, query, "Redis", "rediss"); err != nil {
		return fmt.Errorf("redislog: %w", err)
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
