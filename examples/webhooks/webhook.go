package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
)

// webhook is an endpoint and the secret that its requests are signed with; see
// https://github.com/standard-webhooks/standard-webhooks.
type webhook struct {
	url    string
	secret []byte
	client *http.Client
}

const (
	// The specification's bounds for a secret, in bytes.
	minSecret, maxSecret = 24, 64
	// maxAnswer is how much of an answer is read, for the connection's next use.
	maxAnswer = 64 << 10
)

func newWebhook(address, secret string) (*webhook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("WEBHOOK_URL must be an http or https URL")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || len(key) < minSecret || len(key) > maxSecret {
		return nil, fmt.Errorf("WEBHOOK_SECRET must be whsec_ and the base64 of %d to %d random bytes", minSecret, maxSecret)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns // partitions deliver at the same time
	return &webhook{u.String(), key, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// event is the body of a request.
type event struct {
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

func (h *webhook) deliver(ctx context.Context, logID string, entries []unilog.Entry) error {
	for _, e := range entries {
		// The receiver's key to notice what it has had: it never changes.
		id := fmt.Sprintf("%s/%d/%d", logID, e.Partition, e.Offset)
		body, err := json.Marshal(event{e.Object + "." + e.Action, e.StagedAt, e.Data})
		if err != nil {
			return deliverer.Reject(err)
		}
		if err := h.post(ctx, id, body); err != nil {
			return err
		}
	}
	return nil
}

func (h *webhook) post(ctx context.Context, id string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	now := strconv.FormatInt(time.Now().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", id)
	request.Header.Set("Webhook-Id", id)
	request.Header.Set("Webhook-Timestamp", now)
	request.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(h.sign(id, now, body)))
	response, err := h.client.Do(request)
	if err != nil {
		var urlErr *url.Error
		if errors.As(err, &urlErr) {
			err = urlErr.Err // the URL may hold what no log should
		}
		return fmt.Errorf("post the webhook: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.CopyN(io.Discard, response.Body, maxAnswer); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the webhook's answer: %w", err)
	}
	return verdict(response)
}

func (h *webhook) sign(id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, h.secret)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return mac.Sum(nil)
}

// verdict says what an answer means: delivered, to be tried again, or in vain.
func verdict(response *http.Response) error {
	code := response.StatusCode
	err := fmt.Errorf("the webhook's receiver answered %s", response.Status)
	switch {
	case code >= 200 && code < 300:
		return nil
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		if wait, ok := retryAfter(response.Header.Get("Retry-After"), time.Now()); ok {
			return deliverer.RetryAfter(err, wait)
		}
		return err
	}
	return deliverer.Reject(err) // redirects, too: the URL is to be changed
}

// retryAfter reads a Retry-After header: seconds, or a date.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(header); err == nil {
		return at.Sub(now), true
	}
	return 0, false
}
