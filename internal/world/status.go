package world

import (
	"context"
	"math"
	"strings"

	"github.com/rocketrides/unilog/status"
)

// Status reads the status, again if the log did not say soon enough where it is, or what was
// reported to it.
func (w *World) Status() (s *status.Status) {
	w.Helper()
	w.AwaitThat("the log to answer", func() bool {
		var err error
		s, err = status.Read(w.Ctx, w.DB, "", w.Log)
		w.Must(err)
		return !strings.Contains(s.LogError+s.ReportsError, context.DeadlineExceeded.Error())
	})
	return s
}

// Steady takes the time that the test has taken out of a status: what is less than
// an hour is none. Tests date back by hours what is to be old.
func Steady(s *status.Status) *status.Status {
	seconds := []*float64{&s.StagedFor, &s.TroubledFor}
	for i := range s.Partitions {
		seconds = append(seconds, &s.Partitions[i].TroubledFor)
	}
	for i := range s.Consumers {
		c := &s.Consumers[i]
		seconds = append(seconds, &c.LagSeconds, &c.Silent)
		for j := range c.Behind {
			seconds = append(seconds, &c.Behind[j].LagSeconds, &c.Behind[j].Silent)
			if h := c.Behind[j].Halted; h != nil {
				seconds = append(seconds, &h.Seconds)
			}
		}
	}
	for _, n := range seconds {
		*n = 3600 * math.Floor(*n/3600)
	}
	s.Old = nil
	return s
}
