package rides

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
)

// maxKeyBytes bounds an Idempotency-Key.
const maxKeyBytes = 255

// claim is what a client says of a booking that it may send again: the booking
// is made once for its key, and answered alike each time.
type claim struct {
	key keyHash
	// fingerprint tells the request from others.
	fingerprint [16]byte
}

// keyHash stands for a key, and for whose it is: others may use the same one. It
// is the first half of a SHA-256, which takes half the time to store and to find
// that both texts would.
type keyHash [16]byte

// HashKey returns what the database has in the place of a caller's key.
func HashKey(caller, key string) keyHash {
	sum := sha256.Sum256([]byte(caller + "\x00" + key)) // no name has a NUL
	return keyHash(sum[:16])
}

// lock is the number of the advisory lock that guards the key.
func (k keyHash) lock() int64 { return int64(binary.BigEndian.Uint64(k[:])) }

var (
	// errKeyReused: the key came with another request before.
	errKeyReused = errors.New("rides: the idempotency key was used for another request")
	// errInFlight: the request that the key came with has no answer yet.
	errInFlight = errors.New("rides: a request with this idempotency key is in flight")
)

// readClaim returns nil if the client has given no Idempotency-Key.
func readClaim(r *http.Request, caller string, distance Distance) (*claim, error) {
	given := r.Header["Idempotency-Key"]
	if len(given) == 0 {
		return nil, nil
	}
	key, ok := unquote(given[0])
	if len(given) > 1 || !ok || key == "" || len(key) > maxKeyBytes || strings.ContainsFunc(key, unprintable) {
		return nil, &requestError{http.StatusBadRequest, "Header 'Idempotency-Key' must be one key of 1 to 255 printable ASCII characters."}
	}
	// It is all that a booking says.
	sum := sha256.Sum256([]byte("POST /rides distance=" + distance.String()))
	return &claim{HashKey(caller, key), [16]byte(sum[:16])}, nil
}

// unquote reads a string of RFC 8941, as the header's draft demands it; a key
// without quotes is taken as it is.
func unquote(text string) (string, bool) {
	if !strings.HasPrefix(text, `"`) {
		return text, true
	}
	if len(text) < 2 || !strings.HasSuffix(text, `"`) {
		return "", false
	}
	var key strings.Builder
	for inner := text[1 : len(text)-1]; inner != ""; inner = inner[1:] {
		switch inner[0] {
		case '\\':
			inner = inner[1:]
			if inner == "" || inner[0] != '"' && inner[0] != '\\' {
				return "", false
			}
		case '"':
			return "", false
		}
		key.WriteByte(inner[0])
	}
	return key.String(), true
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }
