package await

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// failing is a test that is allowed to fail.
type failing struct {
	testing.TB
	said string
}

type ended struct{}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(ended{})
}

// of returns what a wait that is in vain says, and how long it took by the clock of
// the bubble that it runs in.
func of(t *testing.T, wait func(testing.TB)) (said string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f, began := &failing{TB: t}, time.Now()
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(ended); !ok {
					panic(r)
				}
			}
			if took := time.Since(began); took < Patience || took > Patience+most {
				t.Errorf("it took %v", took)
			}
			said = f.said
		}()
		wait(f)
	})
	return said
}

func TestWaitsInVainSaySo(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(testing.TB){
		"waited 5m0s for rain; instead: sun": func(t testing.TB) {
			That(t, "rain", func() string { return "sun" })
		},
		"waited 5m0s for rain; instead: it does not hold": func(t testing.TB) {
			True(t, "rain", func() bool { return false })
		},
		"waited 5m0s for the sum to be 4; instead: 5": func(t testing.TB) {
			Equal(t, "the sum", 4, func() int { return 5 })
		},
		`waited 5m0s for the name to be "a"; instead: ""`: func(t testing.TB) {
			Equal(t, "the name", "a", func() string { return "" })
		},
		"waited 5m0s for a word; instead: nothing came; all are silent": func(t testing.TB) {
			Receive(t, "a word", make(chan string), func() string { return "all are silent" })
		},
	} {
		if said := of(t, wait); said != name {
			t.Errorf("said %q, want %q", said, name)
		}
	}
}

func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	looks := 0
	That(t, "the third look", func() string {
		if looks++; looks == 3 {
			return ""
		}
		return fmt.Sprint(looks)
	})
	words := make(chan string, 1)
	words <- "yes"
	if word := Receive(t, "a word", words); word != "yes" || looks != 3 {
		t.Errorf("got %q after %d looks", word, looks)
	}
	if _, bounded := Context(t, "all").Deadline(); !bounded || !strings.Contains(Patience.String(), "m") {
		t.Error("a context without a bound")
	}
}
