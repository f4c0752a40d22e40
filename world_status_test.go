package unilog_test

import (
	"context"
	"math"
	"strings"

	"github.com/rocketrides/unilog"
)

// status reads the status, again if the log did not say soon enough where it is.
func (w *world) status() (s *unilog.Status) {
	w.Helper()
	w.awaitThat("the log to answer", func() bool {
		var err error
		s, err = unilog.ReadStatus(w.ctx, w.db, w.log)
		w.must(err)
		return !strings.Contains(s.LogError, context.DeadlineExceeded.Error())
	})
	return s
}

// steady takes the time that the test has taken out of a status: what is less than
// an hour is none. Tests date back by hours what is to be old.
func steady(s *unilog.Status) *unilog.Status {
	seconds := []*float64{&s.StagedFor, &s.TroubledFor}
	for i := range s.Partitions {
		seconds = append(seconds, &s.Partitions[i].TroubledFor)
	}
	for i := range s.Consumers {
		c := &s.Consumers[i]
		seconds = append(seconds, &c.LagSeconds, &c.Silent)
		for j := range c.Behind {
			seconds = append(seconds, &c.Behind[j].LagSeconds, &c.Behind[j].Silent)
		}
	}
	for _, n := range seconds {
		*n = 3600 * math.Floor(*n/3600)
	}
	s.Old = nil
	return s
}
