package switchlog

import "testing"

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
