package rides

import (
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// TestHostileInputsLeaveNothingBehind sends all of them again and again, and
// sees that the process then holds no more than before. It is not parallel:
// what it measures is the whole process's.
func TestHostileInputsLeaveNothingBehind(t *testing.T) {
	api, _ := newAPI(t, newDatabase(t), func(cfg *APIConfig) { cfg.Log = slog.New(slog.DiscardHandler) })
	server := serveClockless(t, api)
	flood := func(rounds int) (connections int) {
		var clients sync.WaitGroup
		places := make(chan struct{}, 100)
		for range rounds {
			for kind, inputs := range map[string][]hostile{"whole": hostiles, "hang up": hangUps, "stall": stalls, "drip": drips} {
				for _, h := range inputs {
					connections++
					places <- struct{}{}
					clients.Go(func() {
						h.send(t, server, kind)
						<-places
					})
				}
			}
		}
		clients.Wait()
		return connections
	}
	flood(3)
	before := held(t)
	n := flood(20)
	// The last connections are on their way out.
	await.That(t, fmt.Sprintf("the process to hold no more after %d connections than before, %+v", n, before), func() string {
		after := held(t)
		// To keep each body that is read, of one in five, costs twice that heap.
		if after.goroutines < before.goroutines+10 && after.files < before.files+10 && after.heap < before.heap+100*n {
			return ""
		}
		return fmt.Sprintf("%+v", after)
	})
}

// holdings are what a process holds; the heap is in bytes.
type holdings struct{ heap, goroutines, files int }

func held(t *testing.T) holdings {
	t.Helper()
	runtime.GC()
	runtime.GC() // pools keep what they have for one more
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	files, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return holdings{int(memory.HeapAlloc), runtime.NumGoroutine(), len(files)}
}
