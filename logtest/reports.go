package logtest

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
)

var _ unilog.Reporter = (*Memory)(nil)

// reader names a report.
type reader struct {
	name      string
	partition int
}

// Report implements [unilog.Reporter].
func (m *Memory) Report(_ context.Context, name string, at map[int]unilog.Cursor) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.UnixMilli(time.Now().UnixMilli())
	for partition, c := range at {
		m.reports[reader{name, partition}] = unilog.Report{Name: name, Partition: partition, Offset: c.Offset, Time: now}
	}
	return nil
}

// Reports implements [unilog.Reporter].
func (m *Memory) Reports(context.Context) ([]unilog.Report, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.reports)), nil
}

// ForgetReports implements [unilog.Reporter].
func (m *Memory) ForgetReports(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.reports, func(r reader, _ unilog.Report) bool { return r.name == name })
	return nil
}

// testReports is for a log that is a [unilog.Reporter].
func testReports(t *testing.T, h *harness) {
	log, ok := h.Log.(unilog.Reporter)
	if !ok {
		t.Skip("the log takes no reports")
	}
	h.append(1, 1, 5)
	want := func(after string, want ...unilog.Report) {
		t.Helper()
		got, err := log.Reports(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range got {
			if age := time.Since(r.Time); r.Time.IsZero() || age < -time.Hour || age > time.Hour {
				t.Errorf("%s, a report is of %v", after, r.Time)
			}
			got[i].Time = time.Time{}
		}
		slices.SortFunc(got, func(a, b unilog.Report) int { return strings.Compare(a.Name, b.Name) })
		if !slices.Equal(got, want) {
			t.Fatalf("%s, the reports are %+v, want %+v", after, got, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Their names are the test's own: groups of Kafka are the server's.
	mails, totals := "mails/"+rand.Text(), "totals/"+rand.Text()
	want("at first")
	must(log.Report(t.Context(), totals, map[int]unilog.Cursor{0: {}}))
	must(log.Report(t.Context(), mails, map[int]unilog.Cursor{0: h.read(0, 3)[2].Cursor()}))
	want("after two reports", unilog.Report{Name: mails, Offset: 3}, unilog.Report{Name: totals})
	must(log.Report(t.Context(), totals, map[int]unilog.Cursor{0: {Offset: 5}})) // its position is not known
	want("after a report without a position", unilog.Report{Name: mails, Offset: 3}, unilog.Report{Name: totals, Offset: 5})
	must(log.ForgetReports(t.Context(), mails))
	want("when one is forgotten", unilog.Report{Name: totals, Offset: 5})
	must(log.ForgetReports(t.Context(), mails))
	if h.Wipe != nil {
		h.Wipe(t)
		_, err := log.Reports(t.Context())
		must(err)
	}
}
