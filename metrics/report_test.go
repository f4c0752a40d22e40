package metrics_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog/metrics"
)

func TestReportsThatFailAreCounted(t *testing.T) {
	t.Parallel()
	w := setup(t)
	o := metrics.Consumer(w.reg, "c")
	o.And(o).Unreported(errors.New("no right"))
	d := metrics.Deliverer(w.reg, "d")
	d.And(d).Unreported(errors.New("no right"))
	w.want(map[string]float64{`unilog_report_failures_total{consumer="c"}`: 2, `unilog_report_failures_total{consumer="d"}`: 2})
}
