package status

import (
	"fmt"
	"iter"
	"strconv"
	"strings"
)

func (p Partition) number() int         { return p.Partition }
func (p ConsumerPartition) number() int { return p.Partition }

// grouped puts together what is of one kind, in the order of the first ones.
func grouped[T any, K comparable](items []T, kind func(*T) K) iter.Seq2[K, []T] {
	var order []K
	groups := map[K][]T{}
	for i := range items {
		k := kind(&items[i])
		if groups[k] == nil {
			order = append(order, k)
		}
		groups[k] = append(groups[k], items[i])
	}
	return func(yield func(K, []T) bool) {
		for _, k := range order {
			if !yield(k, groups[k]) {
				return
			}
		}
	}
}

// namedMost is how many partitions of a group are named at the most.
const namedMost = 8

// where names the partitions that something is about, if there are several.
func where[T interface{ number() int }](s *Status, group []T) string {
	if len(s.Partitions) == 1 {
		return ""
	}
	if len(group) == 1 {
		return fmt.Sprintf("partition %d: ", group[0].number())
	}
	var names []string
	for _, p := range group[:min(len(group), namedMost)] {
		names = append(names, strconv.Itoa(p.number()))
	}
	if rest := len(group) - len(names); rest > 0 {
		return fmt.Sprintf("partitions %s and %d more: ", strings.Join(names, ", "), rest)
	}
	last := len(names) - 1
	return fmt.Sprintf("partitions %s and %s: ", strings.Join(names[:last], ", "), names[last])
}
