package redaction_test

import (
	"slices"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redaction"
	"github.com/rocketrides/unilog/redislog"
)

// redact redacts, again if the log has answered too late, which says nothing. It returns
// what all calls have done together.
func redact(w *world.World, log unilog.Log, places []redaction.Place, order redaction.Order) (all redaction.Report, err error) {
	w.Helper()
	w.Await("the log to answer in time", func() string {
		var report redaction.Report
		report, err = redaction.Redact(w.Ctx, w.DB, "", log, places, order)
		all.Archived, all.Parked = max(all.Archived, report.Archived), max(all.Parked, report.Parked)
		all.Emptied = slices.Compact(slices.Sorted(slices.Values(append(all.Emptied, report.Emptied...))))
		if world.IsSlow(err) {
			return err.Error()
		}
		return ""
	})
	return all, err
}

// ownLog opens the world's log for the test alone: who shares one with a streamer has its
// calls ended when one of the streamer's takes too long.
func ownLog(t *testing.T, w *world.World) *redislog.Log {
	t.Helper()
	log, err := redislog.Open(w.Ctx, testenv.PatientRedis(testenv.SharedRedis(t)), w.Stream)
	w.Must(err)
	t.Cleanup(log.Close)
	return log
}
