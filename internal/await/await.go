// Package await holds the only bound that the tests have for anything they wait
// for. It is so generous that only a hang reaches it: no test judges the speed of
// the machine. What is slow belongs to the benchmarks.
//
// Whoever waits says what for. When the wait is in vain, the test ends, and says
// what it waited for and what there was instead.
package await

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Patience bounds every wait of a test.
const Patience = 5 * time.Minute

// most is the longest pause between two looks. A pause is also at the most a tenth of
// the time that has passed: dozens of tests wait at the same time, and a look, which
// often asks Postgres, must not take the time of what they wait for.
const (
	least = time.Millisecond
	most  = 50 * time.Millisecond
)

// That looks again and again until look returns "", which means that what has come
// true. Otherwise look says what there is instead. The test ends if that never
// happens. Call it on the test's own goroutine.
func That(t testing.TB, what string, look func() (instead string)) {
	t.Helper()
	overdue := time.NewTimer(Patience)
	defer overdue.Stop()
	began := time.Now()
	for {
		instead := look()
		if instead == "" {
			return
		}
		select {
		case <-overdue.C:
			t.Fatalf("waited %v for %s; instead: %s", Patience, what, instead)
		case <-time.After(min(max(least, time.Since(began)/10), most)):
		}
	}
}

// True is That for what has nothing to say but whether it holds.
func True(t testing.TB, what string, holds func() bool) {
	t.Helper()
	That(t, what, func() string {
		if holds() {
			return ""
		}
		return "it does not hold"
	})
}

// Equal waits until get returns want.
func Equal[T comparable](t testing.TB, what string, want T, get func() T) {
	t.Helper()
	That(t, fmt.Sprintf("%s to be %#v", what, want), func() string {
		if got := get(); got != want {
			return fmt.Sprintf("%#v", got) // "" is something, too
		}
		return ""
	})
}

// Receive returns what comes from a channel, or the zero value once it is closed.
// instead, if there is one, says in the end what there was while nothing came.
func Receive[T any](t testing.TB, what string, from <-chan T, instead ...func() string) T {
	t.Helper()
	overdue := time.NewTimer(Patience)
	defer overdue.Stop()
	select {
	case v := <-from:
		return v
	case <-overdue.C:
		said := "nothing came"
		for _, f := range instead {
			said += "; " + f()
		}
		t.Fatalf("waited %v for %s; instead: %s", Patience, what, said)
		panic("unreachable")
	}
}

// Context returns the test's context with the bound: for calls that wait by
// themselves. Its cause says what the test has waited for.
func Context(t testing.TB, what string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), Patience, fmt.Errorf("waited %v for %s", Patience, what))
	t.Cleanup(cancel)
	return ctx
}
