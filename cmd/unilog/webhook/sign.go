package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Secret is what a receiver and its sender share.
type Secret []byte

// The specification's bounds for a secret, in bytes.
const minSecret, maxSecret = 24, 64

// ParseSecrets reads secrets with white space between them. Its errors do not quote
// them.
func ParseSecrets(text string) ([]Secret, error) {
	var secrets []Secret
	for word := range strings.FieldsSeq(text) {
		secret, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(word, "whsec_"))
		if err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, fmt.Errorf("a secret must be whsec_ and the base64 of %d to %d random bytes: "+
				"make one by `echo whsec_$(openssl rand -base64 32)`", minSecret, maxSecret)
		}
		secrets = append(secrets, secret)
	}
	if len(secrets) == 0 {
		return nil, errors.New("there is no secret in it")
	}
	return secrets, nil
}

// sign adds the headers of Standard Webhooks. They cover the id, the time and the body,
// and no other header.
func (h *Hook) sign(header http.Header, id string, body []byte, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	header.Set("Webhook-Id", id)
	header.Set("Webhook-Timestamp", timestamp)
	var signatures []string
	for _, secret := range h.cfg.Secrets {
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(secret.sign(id, timestamp, body)))
	}
	if len(signatures) > 0 {
		header.Set("Webhook-Signature", strings.Join(signatures, " "))
	}
}

func (s Secret) sign(id, timestamp string, body []byte) []byte {
	mac := hmac.New(sha256.New, s)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return mac.Sum(nil)
}
