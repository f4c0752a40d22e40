package torture

import (
	"strings"
	"testing"
	"time"
)

// TestPauses looks at a partition that has something to do from time to time.
func TestPauses(t *testing.T) {
	t.Parallel()
	type look struct {
		offset, numbered int64
		under            string
	}
	for name, c := range map[string]struct {
		looks []look
		want  string
	}{
		"nothing to do":                       {[]look{{5, 5, ""}, {5, 5, "kill-api"}, {5, 5, ""}}, "0.00 s"},
		"as much as comes":                    {[]look{{5, 6, ""}, {6, 7, ""}, {7, 8, ""}, {8, 9, ""}}, "2.00 s"},
		"from when there is something to do":  {[]look{{5, 5, ""}, {5, 5, ""}, {5, 9, ""}, {5, 9, ""}, {9, 9, ""}}, "3.00 s, consumer0 in partition 3, with no fault"},
		"until it goes on, not until the end": {[]look{{5, 9, ""}, {5, 9, ""}, {5, 9, ""}, {6, 9, ""}, {9, 9, ""}}, "4.00 s"},
		"that has not ended":                  {[]look{{5, 9, ""}, {5, 9, "kill-api"}, {5, 9, ""}}, "3.00 s, consumer0 in partition 3, with kill-api"},
		"not with what was before":            {[]look{{5, 9, "kill-api"}, {9, 9, ""}, {9, 12, ""}, {9, 12, ""}, {9, 12, ""}, {12, 12, ""}}, "4.00 s, consumer0 in partition 3, with no fault"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			p := pauses{last: began, standing: map[place]standing{}}
			for i, l := range c.looks {
				at := began.Add(time.Duration(i+1) * time.Second)
				p.observe(at, at, []standing{{place: place{"consumer0", 3}, Offset: l.offset, Numbered: l.numbered}}, l.under)
			}
			if got := p.String(); !strings.HasPrefix(got, c.want) {
				t.Errorf("the longest is %s, want %s", got, c.want)
			}
		})
	}
}
