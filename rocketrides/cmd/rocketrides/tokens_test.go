package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// newTokens makes a file of tokens, or with one.
func newTokens(t *testing.T, text string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestTokensAreRotated changes the file under an api that runs, to what is of no
// use and then to another token.
func TestTokensAreRotated(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	port := freePort(t)
	file := newTokens(t, "simulator "+hashOf("old"))
	api := start(t, append(env, "API_TOKENS_FILE="+file), "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	old := []string{"API_TOKEN=old"}
	books := func(code int, env []string, flags ...string) {
		t.Helper()
		args := append([]string{"simulator", fmt.Sprintf("--port=%d", port), "--rate=100", "--for=200ms", "--seed=1"}, flags...)
		if r := execute(t, env, args...); r.code != code {
			t.Errorf("%v with %v: %+v", args, env, r)
		}
	}
	byFile := "--token-file=" + newTokens(t, "new")
	reload := func(text, says string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := api.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		api.says(says)
	}
	books(0, old)
	books(1, nil)
	books(1, nil, byFile)

	reload("simulator "+hashOf("old")+"\nnew\n", file+": line 2: ")
	books(0, old)
	books(1, nil, byFile)

	reload("simulator "+hashOf("new")+"\n", "the tokens were reloaded")
	books(1, old)
	books(0, nil, byFile)
	api.stop()
}
