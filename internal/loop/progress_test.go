package loop

import (
	"testing"
	"time"
)

func TestProgressSaysHowFar(t *testing.T) {
	t.Parallel()
	var p Progress
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	if p.Due(now) {
		t.Error("it is due before it has begun")
	}
	p.Begin(now, 1000)
	for _, step := range []struct {
		passed time.Duration
		at, of int64
		due    bool
		want   string
	}{
		{0, 1000, 3_000_000, false, "at 1,000 of 3,000,000 (0 %)"},
		{9 * time.Second, 1000, 3_000_000, false, "at 1,000 of 3,000,000 (0 %)"},
		{time.Second, 1_201_000, 3_001_000, true, "at 1,201,000 of 3,001,000 (40 %), 120,000/s, 15 s left"},
		{10 * time.Second, 1_201_000, 300_001_000, true, "at 1,201,000 of 300,001,000 (0 %), 60,000/s, 1 h 23 min left"},
		{time.Second, 1_261_000, 1_261_000, false, "at 1,261,000 of 1,261,000 (100 %), 60,000/s, 0 s left"},
		{10 * time.Second, 900, 900, true, "at 900 of 900 (100 %)"},
		{10 * time.Second, 1001, 1 << 60, true, "at 1,001 of 1,152,921,504,606,846,976 (0 %), 0/s"},
	} {
		now = now.Add(step.passed)
		if got := p.Line(now, step.at, step.of); got != step.want {
			t.Errorf("after %v it says %q, want %q", step.passed, got, step.want)
		}
		if due := p.Due(now); due != step.due {
			t.Errorf("after %v, a line is due: %v", step.passed, due)
		}
	}
	if got := Left(150 * time.Second); got != "3 min" {
		t.Errorf("150 s are %s", got)
	}
	if got := Number(-1234567); got != "-1,234,567" {
		t.Errorf("the number is %s", got)
	}
}
