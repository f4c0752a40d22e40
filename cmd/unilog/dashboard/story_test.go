package dashboard

import (
	"fmt"
	"reflect"
	"testing"
)

// Without `up`, samples tell what happens. Each line of want is the note that one
// more sample brings, or none.
func TestNotesFromSamples(t *testing.T) {
	t.Parallel()
	head := func(n int64) *int64 { return &n }
	at := func(second float64, change ...func(*sample)) *sample {
		s := &sample{
			Time: int64(second * 1000), Published: 10, Head: head(10), Epoch: 1, Leader: &leader{PID: 7},
			Consumers: []consumerFigure{{Name: "c", Checkpoint: 10}},
		}
		for _, f := range change {
			f(s)
		}
		return s
	}
	vacant := func(s *sample) { s.Leader = nil }
	epoch := func(n int64) func(*sample) { return func(s *sample) { s.Epoch = n } }
	silent := func(seconds float64, lag int64) func(*sample) {
		return func(s *sample) {
			s.Consumers[0] = consumerFigure{Name: "c", Checkpoint: 10 - lag, Lag: lag, LagSeconds: seconds, Silent: seconds}
		}
	}
	paused := func(s *sample) { s.Consumers[0].Paused = "ada" }
	halted := func(offset int, why string) func(*sample) {
		return func(s *sample) {
			s.Consumers[0].Halted, s.Consumers[0].Why = fmt.Sprint("has halted at offset ", offset), why
		}
	}
	for name, c := range map[string]struct {
		samples []*sample
		want    []string
	}{
		"the lead changes": {
			[]*sample{at(0), at(20, epoch(2)), at(21, epoch(5)), at(31, epoch(5))},
			[]string{"leader The lead has changed: session 7 leads, in epoch 2.", "leader The lead has changed 3 times: session 7 leads, in epoch 5."},
		},
		"a moment without a leader": {[]*sample{at(0), at(1, vacant), at(1.5)}, nil},
		"nobody leads": {
			[]*sample{at(0), at(1, vacant), at(2, vacant), at(3, vacant), at(4, epoch(2))},
			[]string{"leader No streamer leads: what is staged waits.", "leader A streamer leads again, after 3.0 s: epoch 2."},
		},
		"a consumer with work is silent": {
			[]*sample{at(0), at(6, silent(6, 3)), at(7, silent(7, 3)), at(8)},
			[]string{
				"halted c has been silent for 6 s and 3 records wait for it: it is frozen, has halted or does not run.",
				"recovered c is at work again, after 7.0 s.",
			},
		},
		"a consumer without work": {[]*sample{at(0), at(40, silent(40, 0))}, nil},
		"a consumer without work is gone": {
			[]*sample{at(0), at(70, silent(70, 0))},
			[]string{"halted c has shown no life for 70 s: it is frozen, has halted or does not run."},
		},
		"a consumer waits for a log that is down": {
			[]*sample{at(0), at(9, silent(9, 3), func(s *sample) { s.Redis = "Redis cannot be read: x" })},
			[]string{"lost Redis cannot be read: x"},
		},
		"a record is parked": {
			[]*sample{at(0), at(1, func(s *sample) { s.Consumers[0].DeadLetters = 1 })},
			[]string{"halted c has parked 1 record in dead_letters, now 1."},
		},
		"a consumer is paused, goes on, and halts": {
			[]*sample{
				at(0), at(1, paused), at(9, silent(9, 3), paused), at(10, silent(10, 3)), at(11, silent(11, 3)), at(12),
				at(13, halted(4, "no")), at(14, halted(4, "no, not even now")), at(20, silent(7, 3)),
				at(26, silent(13, 3)),
			},
			[]string{
				"info c is paused by ada.", "info c is no longer paused.",
				"halted c has halted at offset 4: no.", "recovered c is no longer halted.",
				"halted c has been silent for 13 s and 3 records wait for it: it is frozen, has halted or does not run.",
			},
		},
		"the log loses records": {
			[]*sample{at(0), at(1, func(s *sample) { s.Head = head(4) }), at(1.25)},
			[]string{
				"lost The log has lost 6 records: it is at offset 4 and was at 10.",
				"rebuilt The log had lost records; 6 records came back from the archive within 250 ms.",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			story := newStory(func(n note) { got = append(got, fmt.Sprintf("%s %s", n.Kind, n.Text)) })
			for _, s := range c.samples {
				story.sampled(s, s.Time)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("the notes are\n%q, want\n%q", got, c.want)
			}
		})
	}
}
