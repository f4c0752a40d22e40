package switchlog

import (
	"context"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestPositions is about engines that go by positions: those of another place must
// not reach them.
func TestPositions(t *testing.T) {
	t.Parallel()
	first, second := &place{}, &place{generation: 2}
	for _, c := range []struct {
		at             *place
		position, want string
	}{
		{first, "17", "17"},
		{first, first.tag("17"), "17"},
		{first, second.tag("17"), ""},
		{second, second.tag("17"), "17"},
		{second, second.tag("1/7"), "1/7"},
		{second, first.tag("17"), ""},
		{second, "1/17", ""},
		{second, "", ""},
	} {
		if got := c.at.own(c.position); got != c.want {
			t.Errorf("generation %d makes %q of %q, want %q", c.at.generation, got, c.position, c.want)
		}
	}
}

// taker is an engine that takes reports.
type taker struct {
	Engine
	unilog.Reporter
	took map[int]unilog.Cursor
}

func (t *taker) Report(_ context.Context, _ string, at map[int]unilog.Cursor) error {
	t.took = at
	return nil
}

// TestReportsHavePositionsOfTheirPlace reports a position of here, and one of before.
func TestReportsHavePositionsOfTheirPlace(t *testing.T) {
	t.Parallel()
	engine := new(taker)
	l := &Log{at: &place{Engine: engine, generation: 2}}
	err := l.Report(t.Context(), "mails", map[int]unilog.Cursor{0: {Offset: 3, Position: l.at.tag("17")}, 1: {Offset: 4, Position: "17"}})
	if err != nil || engine.took[0] != (unilog.Cursor{Offset: 3, Position: "17"}) || engine.took[1] != (unilog.Cursor{Offset: 4}) {
		t.Errorf("the engine gets %+v, %v", engine.took, err)
	}
}
