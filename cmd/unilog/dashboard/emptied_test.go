package dashboard

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// Who empties Redis reads so, and how many records came back, in whatever order
// the dashboard gets to know of it, and at most one loss is told of.
func TestEmptied(t *testing.T) {
	t.Parallel()
	const emptied = "lost redis is emptied"
	const lost = "lost The log has lost 10 records: it is at offset 0 and was at 10."
	back := func(n, ms int) string {
		return fmt.Sprintf("rebuilt Redis was emptied; %d records came back from the archive within %d ms.", n, ms)
	}
	type step func(*story)
	sampled := func(at, head int64) step {
		return func(s *story) {
			published := int64(10)
			if head < 0 { // nothing was ever published
				head, published = 0, 0
			}
			s.sampled(&sample{
				Time: at, Published: published, Head: &head, First: 1, Partitions: 1, Epoch: 1, Leader: &leader{PID: 7},
			}, at+5)
		}
	}
	heardAt := func(at int64, h heard) step { return func(s *story) { s.hear(h, at) } }
	event := func(began, at int64) step {
		return heardAt(at, heard{Up: &upEvent{time.UnixMilli(began), "redis", "emptied", "redis is emptied"}})
	}
	line := func(logged, at int64) step {
		return heardAt(at, heard{Log: &logLine{
			time.UnixMilli(logged), "streamer", "WARN", "the log has lost records: publishing them again from the archive",
			map[string]any{"first": 3.0, "last": 10.0}, // 2 had been read by all
		}})
	}
	full, low := int64(10), int64(0)
	for name, c := range map[string]struct {
		steps []step
		want  []string
	}{
		"told, logged, seen": {
			[]step{event(1010, 1020), line(1030, 1040), sampled(1250, low), sampled(1500, full)},
			[]string{emptied, back(8, 495)},
		},
		"seen, told, logged": {
			[]step{sampled(1250, low), event(1010, 1300), line(1030, 1310), sampled(1500, full)},
			[]string{lost, emptied, back(8, 495)},
		},
		"seen, logged, told": {
			[]step{sampled(1250, low), line(1030, 1300), event(1010, 1310), sampled(1500, full)},
			[]string{lost, emptied, back(8, 495)},
		},
		"logged, told, never seen": {
			[]step{line(1030, 1040), event(1010, 1050), sampled(1250, full)},
			[]string{"lost The log has lost 8 records: it is at offset 2 and was at 10.", emptied, back(8, 245)},
		},
		"seen, over, told, logged": {
			[]step{sampled(1250, low), sampled(1500, full), event(1010, 1600), line(1030, 1610), sampled(1750, full)},
			[]string{
				lost, "rebuilt The log had lost records; 10 records came back from the archive within 255 ms.",
				emptied, back(10, 495),
			},
		},
		"seen, over, logged, told": {
			[]step{sampled(1250, low), sampled(1500, full), line(1030, 1600), event(1010, 1610), sampled(1750, full)},
			[]string{
				lost, "rebuilt The log had lost records; 10 records came back from the archive within 255 ms.",
				emptied, back(8, 495),
			},
		},
		"logged, over, told": {
			[]step{line(1030, 1040), sampled(1250, full), event(1010, 1300), sampled(1500, full)},
			[]string{
				"lost The log has lost 8 records: it is at offset 2 and was at 10.",
				"rebuilt The log had lost records; 8 records came back from the archive within 225 ms.",
				emptied, back(8, 245),
			},
		},
		"told, over, logged": {
			[]step{event(1010, 1020), sampled(1250, low), sampled(1500, full), line(1030, 1600), sampled(1750, full)},
			[]string{emptied, back(10, 495)},
		},
		"told, never seen, logged": {
			[]step{event(1010, 1020), sampled(1250, full), line(1030, 1300), sampled(1500, full)},
			[]string{emptied, back(10, 245)},
		},
		"told, never seen, never logged": {
			[]step{event(1010, 1020), sampled(1250, full), sampled(1500, full)},
			[]string{emptied, back(10, 245)},
		},
		"told between two looks that see nothing, logged late": {
			[]step{sampled(1250, full), event(1010, 1300), sampled(1500, full), line(1030, 1600), sampled(1750, full)},
			[]string{emptied, back(10, 495)},
		},
		"while it cannot be read": {
			[]step{
				event(1010, 1020),
				func(s *story) { s.sampled(&sample{Time: 1250, Redis: "x", Head: &full, Leader: &leader{}}, 1255) },
				sampled(1500, full),
			},
			[]string{emptied, "lost x", "recovered Redis can be read again, after 250 ms.", back(10, 495)},
		},
		"twice": {
			[]step{
				event(1010, 1020), sampled(1250, low), sampled(1500, full),
				event(1600, 1620), line(1630, 1640), sampled(1750, low), sampled(2000, full),
			},
			[]string{emptied, back(10, 495), emptied, back(8, 405)},
		},
		"without up, and rebuilt between two looks": {[]step{sampled(1250, full), sampled(1500, full)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			story := newStory(func(n note) { got = append(got, fmt.Sprintf("%s %s", n.Kind, n.Text)) })
			story.words = rides
			story.hear(heard{connected: true}, 900)
			sampled(1000, full)(&story)
			for _, step := range c.steps {
				step(&story)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("the notes are\n%q, want\n%q", got, c.want)
			}
		})
	}

	// An old emptying that has cost nothing explains nothing.
	var got []string
	story := newStory(func(n note) { got = append(got, fmt.Sprintf("%s %s", n.Kind, n.Text)) })
	for _, step := range []step{
		sampled(1000, -1), event(1010, 1020), sampled(1250, -1), sampled(1500, full),
		sampled(9000, low), line(8990, 9010), sampled(9250, full),
	} {
		step(&story)
	}
	want := []string{emptied, lost, "rebuilt The log had lost records; 8 records came back from the archive within 255 ms."}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the notes are\n%q, want\n%q", got, want)
	}
}
