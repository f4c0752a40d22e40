package private

import (
	"path/filepath"
	"testing"
)

// TestTool is about the Postgres that the other tests start.
func TestTool(t *testing.T) {
	t.Parallel()
	bin, err := finder{}.postgres(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	for want, names := range map[string][]string{
		filepath.Join(bin, "initdb"): {"initdb"},
		"":                           {"no-such-program", "nor-this"},
	} {
		if got := Tool(t.Context(), names...); got != want {
			t.Errorf("%v is %q, want %q", names, got, want)
		}
	}
}
