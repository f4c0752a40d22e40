package main

import "fmt"

// A record's id says which writer staged it: each writer's ids are in an order of
// their own, which the stream has to keep.
const writerSpan = 10_000_000

// verdict says what became of the records that were committed.
type verdict struct {
	committed, lost, doubled, disordered int
	foreign                              int // that nobody has committed
}

// judge compares what was committed with the stream. An entry is out of order if an
// earlier one is of a later record of the same writer; only the first entry of each
// record counts, as those after it are doubled.
func judge(committed, stream []int) verdict {
	v := verdict{committed: len(committed)}
	wanted, seen, last := map[int]bool{}, map[int]bool{}, map[int]int{}
	for _, id := range committed {
		wanted[id] = true
	}
	for _, id := range stream {
		writer := id / writerSpan
		switch {
		case !wanted[id]:
			v.foreign++
		case seen[id]:
			v.doubled++
		case id < last[writer]:
			v.disordered++
		default:
			last[writer] = id
		}
		seen[id] = true
	}
	for id := range wanted {
		if !seen[id] {
			v.lost++
		}
	}
	return v
}

// clean says whether nothing is wrong.
func (v verdict) clean() bool { return v.lost+v.doubled+v.disordered+v.foreign == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("%d committed, %d lost, %d doubled, %d out of order, %d of nobody", v.committed, v.lost, v.doubled, v.disordered, v.foreign)
}
