package unilog

import (
	"context"
	"math/rand/v2"
	"sync"
)

// SimulateFailures returns a hook that fails with [ErrSimulated], each time
// with the given probability. It is safe for concurrent use; the same seed
// gives the same sequence.
func SimulateFailures(probability float64, seed uint64) func(context.Context, []Entry) error {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	return func(context.Context, []Entry) error {
		mu.Lock()
		defer mu.Unlock()
		if random.Float64() < probability {
			return ErrSimulated
		}
		return nil
	}
}
