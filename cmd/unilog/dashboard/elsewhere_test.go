package dashboard

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/status"
)

// TestConsumersElsewhereAreShown has one that reports, and one that has its checkpoints
// here, too.
func TestConsumersElsewhereAreShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log := s.log.(*logtest.Memory)
	s.exec(`UPDATE unilog.partitions SET next_offset = 5001, published_offset = 5000`)
	s.exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('here', 0, 5000)`)
	s.must(log.Report(t.Context(), "here", map[int]unilog.Cursor{0: {}}))
	report := func(offset int64) {
		s.must(log.Report(t.Context(), "mails", map[int]unilog.Cursor{0: {Offset: offset}}))
	}
	report(1000)
	w := &watcher{Dashboard: patient(Config{DB: s.db, Log: s.log, Logger: quietly}), down: map[string]bool{}}
	w.story = newStory(w.hub.note)
	look := func() *consumerFigure {
		t.Helper()
		w.elsewhere.read = time.Time{}
		w.look(t.Context())
		if w.last == nil || len(w.last.Consumers) != 2 || w.last.Consumers[0].Elsewhere || w.last.Consumers[0].Name != "here" {
			t.Fatalf("the sample is %+v", w.last)
		}
		return &w.last.Consumers[1]
	}
	if c := look(); c.Name != "mails" || !c.Elsewhere || c.Checkpoint != 1000 || c.Lag != 4000 || c.Pace != "" {
		t.Errorf("the figures are %+v", c)
	}
	// A second look, as if it were four seconds later.
	first := w.looks[0]
	var c *consumerFigure
	await.That(t, "the pace of a consumer that has just reported", func() string {
		report(3000)
		first.Time, w.looks = time.Now().Add(-4*time.Second), []*status.Status{first}
		if c = look(); c.Checkpoint != 3000 || !strings.HasPrefix(c.Pace, "caught up in about ") {
			return fmt.Sprintf("%+v", c) // a report of a few seconds ago says nothing of the pace
		}
		return ""
	})
	v := sceneOf(1000, 1)
	v.sample = w.last
	if text := strings.Join(v.lines(140, 40), "\n"); !strings.Contains(text, "elsewhere, "+c.Pace) {
		t.Errorf("the terminal does not say %q:\n%s", c.Pace, text)
	}
	// What was reported stays, when the log does not answer.
	log.Intercept(func(context.Context, logtest.Call, func(context.Context) error) error { return errors.New("down") })
	if c := look(); c.Checkpoint != 3000 {
		t.Errorf("the figures are %+v", c)
	}
}
