package status_test

import (
	"testing"
	"time"

	"github.com/rocketrides/unilog/status"
)

// TestPaceSaysWhenAConsumerHasCaughtUp compares two looks, four seconds apart.
func TestPaceSaysWhenAConsumerHasCaughtUp(t *testing.T) {
	t.Parallel()
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(after time.Duration, numbered int64, c status.Consumer) *status.Status {
		c.Name = "sum"
		c.Lag = numbered - c.Checkpoint
		return &status.Status{Time: began.Add(after), Numbered: numbered, Consumers: []status.Consumer{c}}
	}
	for want, two := range map[string][2]status.Consumer{
		"behind 1,200,000, applies 400,000/s, arrives 500/s, caught up in about 4 s": {{Checkpoint: 202_000}, {Checkpoint: 1_802_000}},
		"behind 3,001,000, applies 250/s, arrives 500/s, falling behind":             {{}, {Checkpoint: 1000}},
		"behind 3,002,000, applies 0/s, arrives 500/s, standing still":               {{}, {}},
		"behind 2,952,000, applies 10,000/s, arrives 500/s, caught up in about 5 min": {
			{Elsewhere: true, Silent: 4}, {Elsewhere: true, Silent: 3, Checkpoint: 50_000},
		},
		"":         {{Checkpoint: 3_000_000}, {Checkpoint: 3_001_001}}, // little
		"silent":   {{}, {Silent: 100}},
		"reported": {{Elsewhere: true, Silent: 1}, {Elsewhere: true, Silent: 5}}, // no more since
	} {
		first, last := at(0, 3_000_000, two[0]), at(4*time.Second, 3_002_000, two[1])
		last.Since(first)
		c := last.Consumers[0]
		switch {
		case c.Pace != nil && c.Says() != want:
			t.Errorf("it says %q, want %q", c.Says(), want)
		case c.Pace == nil && len(want) > len("reported"):
			t.Errorf("it says nothing, want %q", want)
		}
	}
	if s := at(0, 3_000_000, status.Consumer{Elsewhere: true}); s.Behind() {
		t.Error("another look a second later is said to be worth it for a consumer elsewhere")
	}
}

// TestLagIsThatOfTheLastReport lets a consumer be alive, and then silent for too long.
func TestLagIsThatOfTheLastReport(t *testing.T) {
	t.Parallel()
	for silent, want := range map[float64][3]float64{50: {10, 0, 10}, 70: {60, 40, 60}} {
		c := status.Consumer{Silent: silent, LagSeconds: 60, Behind: []status.ConsumerPartition{
			{Partition: 0, LagSeconds: 60, Silent: silent}, {Partition: 1, LagSeconds: 40, Silent: silent},
		}}
		c.AsReported()
		if got := [3]float64{c.Behind[0].LagSeconds, c.Behind[1].LagSeconds, c.LagSeconds}; got != want || !c.Elsewhere {
			t.Errorf("silent for %v s, the lags are %v, want %v", silent, got, want)
		}
	}
}
