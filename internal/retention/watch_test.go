package retention

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestNobodyExpiresByTheDatabasesClockAlone looks at consumers that have expired by it.
func TestNobodyExpiresByTheDatabasesClockAlone(t *testing.T) {
	t.Parallel()
	w := &Watch{}
	began := time.Now()
	old := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	look := func(after time.Duration, want string, silent map[string]silence) {
		t.Helper()
		got := slices.Sorted(maps.Keys(w.expired(silent, began.Add(after))))
		if strings.Join(got, " ") != want {
			t.Errorf("after %v, %v have expired, want %q", after, got, want)
		}
	}
	both := map[string]silence{"gone": {1, old}, "alive": {2, old}}
	look(0, "", both)
	look(confirm-time.Second, "", both)
	look(confirm-time.Second, "", map[string]silence{"gone": {1, old}}) // the other one was heard of
	look(confirm, "gone", both)                                         // … and then the clock jumps again
	look(2*confirm-2*time.Second, "gone", both)
	look(2*confirm, "alive gone", both)
	look(3*confirm, "gone", map[string]silence{"gone": {1, old}, "alive": {2, old.Add(time.Hour)}})
	if got := (*Watch)(nil).expired(both, began); len(got) != 2 {
		t.Errorf("without a watch, %v have expired", got)
	}
}

// TestNothingAgesByAJump lets the database's clock jump, ahead and back.
func TestNothingAgesByAJump(t *testing.T) {
	t.Parallel()
	w := &Watch{}
	ours, theirs := time.Now(), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		ours, theirs time.Duration
		rest, jumped time.Duration
	}{
		{0, 0, 0, 0},
		{time.Hour, time.Hour + 30*time.Second, 0, 0}, // they drift
		{time.Second, 240 * time.Hour, 24 * time.Hour, 240*time.Hour - time.Second},
		{time.Hour, time.Hour, 23 * time.Hour, 0},
		{time.Second, -240 * time.Hour, 23*time.Hour - time.Second, 0},
		{23 * time.Hour, 23 * time.Hour, 0, 0},
	} {
		ours, theirs = ours.Add(step.ours), theirs.Add(step.theirs)
		rest, jumped := w.Rests(theirs, ours, 24*time.Hour)
		if rest != step.rest || jumped != step.jumped {
			t.Errorf("%+v: it rests for %v after a jump of %v", step, rest, jumped)
		}
	}
}
