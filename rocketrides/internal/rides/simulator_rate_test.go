package rides

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSetRate sees that a new rate does not wait for the ride that comes due at
// the old one, and changes what is printed.
func TestSetRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api, out := &fakeAPI{}, &buffer{}
		s, err := NewSimulator(SimulatorConfig{URL: "http://api.test", Rate: 1e-4, Seed: 1, Transport: api, Out: out, For: 11 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		s.SetRate(1e-4) // no change
		time.AfterFunc(time.Second-time.Millisecond, func() { s.SetRate(100) })
		if err := s.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if n := len(api.distances); n < 800 || n > 1200 {
			t.Errorf("%d rides in 10 s at 100 a second", n)
		}
		wantOutput(t, out.String(),
			`Booking 0\.0001 rides a second at http://api\.test \(seed 1\)`, "Response: .*", // that of the beginning
			"Booking 100 rides a second from now on", "Rides: [0-9]+ created, 0 failed, 0 not sent; .*")
	})
}
