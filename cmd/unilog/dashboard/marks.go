package dashboard

import (
	"slices"
	"time"
)

// The kinds of notes that leave a mark on the plots.
var (
	hardKinds = []string{"killed", "crash", "frozen", "lost", "halted"}
	softKinds = []string{"simulated", "refused"}
)

func (n *note) failed() bool {
	return n.Kind == "simulated" || n.Kind == "crash" || n.Kind == "killed" || n.Kind == "refused" && n.Source == "streamer"
}

// marks are those of the history's time, the oldest first: one for a second is as many
// as can be told apart. Notes are kept for a shorter time, as there are many more.
type marks []mark

// marksMost is for clocks that go back.
const marksMost = 2 * int(historyFor/time.Second)

// add takes a note, and returns the mark of its second, if it is worth one.
func (m *marks) add(n *note) *mark {
	hard, soft := slices.Contains(hardKinds, n.Kind), slices.Contains(softKinds, n.Kind)
	if !hard && !soft {
		return nil
	}
	kept := slices.DeleteFunc(*m, func(old mark) bool { return n.Time-old.Time > historyFor.Milliseconds() })
	second := n.Time / 1000
	i := len(kept)
	for i > 0 && kept[i-1].Time/1000 >= second { // notes come nearly in order
		i--
	}
	if i == len(kept) || kept[i].Time/1000 != second {
		kept = slices.Insert(kept, i, mark{Time: n.Time})
	}
	at := kept[i]
	at.Hard, at.Soft = at.Hard || hard, at.Soft || soft
	if n.failed() {
		at.Failed++
	}
	kept[i] = at
	*m = kept[max(0, len(kept)-marksMost):]
	return &at
}
