package rides

import (
	"testing"
	"time"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	var th throttle
	start := time.Now()
	for _, tc := range []struct {
		after   time.Duration
		dropped int
		ok      bool
	}{
		{0, 0, true},
		{time.Millisecond, 0, false},
		{999 * time.Millisecond, 0, false},
		{time.Second, 2, true},
		{1500 * time.Millisecond, 0, false},
		{time.Minute, 1, true},
		{time.Hour, 0, true},
	} {
		if dropped, ok := th.pass(start.Add(tc.after)); dropped != tc.dropped || ok != tc.ok {
			t.Errorf("after %s: %d, %t", tc.after, dropped, ok)
		}
	}
}
