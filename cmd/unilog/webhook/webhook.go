// Package webhook posts the entries of a log to a URL, one a request, signed as Standard
// Webhooks and written as CloudEvents. It is the [deliverer.Delivery] of a command.
//
//   - https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
//   - https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
)

// Config says where a Hook posts, and how. URL and Format are required.
type Config struct {
	// URL is the receiver's: https, or http.
	URL string
	// Format is how a record is written.
	Format Format
	// Source is the source of CloudEvents, a URI reference: urn:uuid: and the log's id if
	// empty.
	Source string
	// Secrets sign each request, all of them. Nothing is signed without any.
	Secrets []Secret
	// Timeout bounds a request, from dialling to the end of the answer: default 20s.
	Timeout time.Duration
	// RootCAs are the authorities to trust in place of the system's.
	RootCAs *x509.CertPool
}

// Hook posts entries to a receiver, until that wants nothing more. It is safe for
// concurrent use.
type Hook struct {
	cfg    Config
	client *http.Client
	gone   atomic.Bool // the receiver has answered 410
}

const (
	// defaultTimeout is what Standard Webhooks recommends: 15 to 30 seconds.
	defaultTimeout = 20 * time.Second
	// connectTimeout bounds each of the two steps to a connection.
	connectTimeout = 5 * time.Second
	// maxAnswer is how much of an answer is read, for the connection's next use.
	maxAnswer = 64 << 10
	// maxConnections is how many are kept open: one for each partition there can be.
	maxConnections = 1024
)

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Hook, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("the receiver's URL must be like https://host/path")
	case cfg.Timeout < time.Millisecond:
		return nil, fmt.Errorf("the timeout is %v: it must be at least 1ms", cfg.Timeout)
	case !cfg.Format.valid():
		return nil, fmt.Errorf("the format is %q: it must be one of %s", cfg.Format, formats())
	case !isURIReference(cfg.Source):
		return nil, fmt.Errorf("the source is %q: it must be a URI reference, such as https://example.com/orders or /orders", cfg.Source)
	}
	return &Hook{cfg: cfg, client: &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout: connectTimeout,
			TLSClientConfig:     &tls.Config{RootCAs: cfg.RootCAs},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: maxConnections,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends the connections that are idle.
func (h *Hook) Close() { h.client.CloseIdleConnections() }

// CallTimeout is how long Deliver may take with one entry.
func (h *Hook) CallTimeout() time.Duration { return h.cfg.Timeout + time.Second }

// Deliver is a [deliverer.Delivery]. It posts one entry after the other.
func (h *Hook) Deliver(ctx context.Context, logID string, entries []unilog.Entry) error {
	for i := range entries {
		if h.gone.Load() {
			return deliverer.Halt(errGone)
		}
		if err := h.post(ctx, logID, &entries[i]); err != nil {
			return err
		}
	}
	return nil
}

// id names an entry for ever. It has no full stop, which would end it in what is signed.
func id(logID string, e *unilog.Entry) string {
	return logID + "/" + strconv.Itoa(e.Partition) + "/" + strconv.FormatInt(e.Offset, 10)
}

func (h *Hook) post(ctx context.Context, logID string, e *unilog.Entry) error {
	bounded, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	header, body := h.cfg.Format.write(h.source(logID), id(logID, e), e)
	h.sign(header, id(logID, e), body, time.Now())
	request, err := http.NewRequestWithContext(bounded, http.MethodPost, h.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	// Not sent: it lets the client try once more on a new connection where an old one
	// was closed meanwhile.
	header["Idempotency-Key"] = nil
	request.Header = header
	response, err := h.client.Do(request)
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		return deliverer.Unavailable(fmt.Errorf("the receiver has not answered within %v", h.cfg.Timeout))
	case err != nil:
		return deliverer.Unavailable(unreached(withoutURL(err)))
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusGone {
		h.gone.Store(true)
	}
	said, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer)) // the answer is its status
	return verdict(response, said, time.Now())
}

func (h *Hook) source(logID string) string {
	if h.cfg.Source != "" {
		return h.cfg.Source
	}
	return "urn:uuid:" + logID
}

// withoutURL is an error without the URL, which may hold what no log should.
func withoutURL(err error) error {
	var of *url.Error
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func unreached(err error) error {
	if errors.As(err, new(*tls.CertificateVerificationError)) {
		return fmt.Errorf("post to the receiver: %w: see --ca-file", err)
	}
	return fmt.Errorf("post to the receiver: %w", err)
}
