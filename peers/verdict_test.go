package main

import "testing"

func TestJudge(t *testing.T) {
	t.Parallel()
	second := writerSpan + 1
	for name, c := range map[string]struct {
		committed, stream []int
		want              verdict
	}{
		"all well":              {[]int{1, 2, 3}, []int{1, 2, 3}, verdict{committed: 3}},
		"lost":                  {[]int{1, 2, 3}, []int{1, 3}, verdict{committed: 3, lost: 1}},
		"sent again from 2 on":  {[]int{1, 2, 3}, []int{1, 2, 3, 2, 3}, verdict{committed: 3, doubled: 2}},
		"out of order":          {[]int{1, 2, 3}, []int{2, 3, 1}, verdict{committed: 3, disordered: 1}},
		"writers have no order": {[]int{1, 2, second}, []int{second, 1, 2}, verdict{committed: 3}},
		"what nobody committed": {[]int{1}, []int{1, 7}, verdict{committed: 1, foreign: 1}},
	} {
		if got := judge(c.committed, c.stream); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
