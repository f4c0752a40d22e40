package up

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// stopBudget leaves a little of the 10 s that a stop may take.
const stopBudget = 9500 * time.Millisecond

// stop stops all that runs, in order.
func (s *supervisor) stop() {
	s.endActions()
	groups, count := s.groups, func() {}
	if len(groups) > 0 {
		count = s.countRides
	}
	if len(s.servers) > 0 {
		groups = append(slices.Clone(groups), s.servers)
	}
	if len(groups) == 0 {
		return
	}
	s.out.say("stopping %s", list(groups))
	s.stopGroups(groups, count)
	s.mu.Lock()
	s.groups, s.servers = nil, nil
	s.mu.Unlock()
}

// stopGroups stops one group after the other. Each has its share of the
// budget, and what those before it left of theirs. beforeLast is called before
// the last group stops.
func (s *supervisor) stopGroups(groups [][]*task, beforeLast func()) {
	began := time.Now()
	for i, group := range groups {
		if i == len(groups)-1 {
			beforeLast()
		}
		share := cmp.Or(s.cfg.stopFor, stopBudget) * time.Duration(i+1) / time.Duration(len(groups))
		ctx, cancel := context.WithDeadline(context.Background(), began.Add(share))
		var wg sync.WaitGroup
		for _, t := range group {
			wg.Go(func() {
				if err := t.stop(ctx); err != nil {
					s.out.say("%s: %v", t.name, err)
				}
			})
		}
		wg.Wait()
		cancel()
	}
}

type named interface{ title() string }

func (t *task) title() string   { return t.name }
func (p Process) title() string { return p.Name }

// list names what is in groups, in order.
func list[T named](groups [][]T) string {
	var names []string
	for _, group := range groups {
		for _, n := range group {
			names = append(names, n.title())
		}
	}
	return strings.Join(names, ", ")
}
