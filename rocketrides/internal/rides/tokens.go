package rides

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
)

// tokens are those of a file, by their hashes. It is safe for concurrent use.
//
// A search by the hash tells by its time at most how much of a guess's SHA-256 is
// right, which does not help to make a better guess.
type tokens struct {
	file    string
	log     *slog.Logger
	callers atomic.Pointer[map[[sha256.Size]byte]string]
}

// everyone is the one caller of an api that does not tell its clients apart.
const everyone = ""

const maxCallerBytes = 64

// load reads the file. If that fails, the tokens are those of before.
func (t *tokens) load() error {
	text, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("--tokens-file: %w", err)
	}
	callers, err := parseTokens(text)
	if err != nil {
		return fmt.Errorf("--tokens-file %s: %w", t.file, err)
	}
	if info, err := os.Stat(t.file); err == nil && info.Mode().Perm()&0o006 != 0 {
		t.log.Warn("others may read or change the file of tokens: take that away with chmod o-rw", "file", t.file)
	}
	t.callers.Store(&callers)
	return nil
}

// parseTokens quotes nothing in its errors: what is in the wrong place may be a token.
func parseTokens(text []byte) (map[[sha256.Size]byte]string, error) {
	callers := map[[sha256.Size]byte]string{}
	lines := map[[sha256.Size]byte]int{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		fields := strings.Fields(string(line))
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) != 2 {
			return nil, fmt.Errorf("line %d: it must be a caller's name and the SHA-256 of a token, with a space between", n)
		}
		if len(fields[0]) > maxCallerBytes || strings.ContainsFunc(fields[0], unsafeInID) {
			return nil, fmt.Errorf("line %d: the caller's name must be at most %d of A-Z a-z 0-9 . - _", n, maxCallerBytes)
		}
		hash, err := hex.DecodeString(fields[1])
		if err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("line %d: the SHA-256 of a token must be %d hexadecimal digits", n, 2*sha256.Size)
		}
		key := [sha256.Size]byte(hash)
		if before, ok := lines[key]; ok {
			return nil, fmt.Errorf("line %d: it has the token of line %d", n, before)
		}
		lines[key], callers[key] = n, fields[0]
	}
	if len(callers) == 0 {
		return nil, errors.New("it has no token, so that nobody could call")
	}
	return callers, nil
}

// ReloadTokens reads TokensFile again, if there is one. A file that is of no use
// changes nothing, and is logged.
func (a *API) ReloadTokens() {
	if a.tokens == nil {
		return
	}
	if err := a.tokens.load(); err != nil {
		a.cfg.Log.Error("the tokens were not reloaded: those of before are still in force", "err", err)
		return
	}
	a.cfg.Log.Info("the tokens were reloaded", "tokens", len(*a.tokens.callers.Load()))
}

// isToken tells whether a text is a b64token of RFC 6750, 2.1.
func isToken(text string) bool {
	text = strings.TrimRight(text, "=")
	return text != "" && !strings.ContainsFunc(text, func(c rune) bool { return unsafeInID(c) && !strings.ContainsRune("~+/", c) })
}

// authenticate returns whose token a request has, or why it has none that is good.
func (t *tokens) authenticate(r *http.Request) (caller string, why *refusal) {
	given := r.Header["Authorization"]
	if len(given) == 0 {
		return "", noToken
	}
	if len(given) > 1 {
		return "", twoTokens
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", noToken
	}
	token = strings.TrimLeft(token, " ")
	if !isToken(token) {
		return "", malformedToken
	}
	caller, ok := (*t.callers.Load())[sha256.Sum256([]byte(token))]
	if !ok {
		return "", unknownToken
	}
	return caller, nil
}

type callerKey struct{}

func withCaller(r *http.Request, caller string) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, caller))
}

// callerOf is [everyone] unless the request came with a token.
func callerOf(ctx context.Context) string {
	caller, _ := ctx.Value(callerKey{}).(string)
	return caller
}
