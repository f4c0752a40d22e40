package rides

import (
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHostileInputsLeaveNothingBehind sends all of them again and again, and
// sees that the process then holds no more than before. It is not parallel:
// what it measures is the whole process's.
func TestHostileInputsLeaveNothingBehind(t *testing.T) {
	api, _ := newAPI(t, newDatabase(t), func(cfg *APIConfig) { cfg.Log = slog.New(slog.DiscardHandler) })
	base, _ := serve(t, api)
	hurried, _ := serve(t, api, func(ln net.Listener) net.Listener { return hurriedListener{ln} })
	flood := func(rounds int) (connections int) {
		var clients sync.WaitGroup
		places := make(chan struct{}, 100)
		for range rounds {
			for kind, inputs := range map[string][]hostile{"whole": hostiles, "hang up": hangUps, "stall": stalls, "drip": drips} {
				server := base
				if kind == "stall" || kind == "drip" {
					server = hurried
				}
				for _, h := range inputs {
					connections++
					places <- struct{}{}
					clients.Go(func() {
						h.send(t, strings.TrimPrefix(server, "http://"), kind)
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
	late := time.After(10 * time.Second)
	for look := time.Tick(50 * time.Millisecond); ; {
		after := held(t)
		// To keep each body that is read, of one in five, costs twice that heap.
		if after.goroutines < before.goroutines+10 && after.files < before.files+10 && after.heap < before.heap+100*n {
			return
		}
		select {
		case <-look: // the last connections are on their way out
		case <-late:
			t.Fatalf("after %d connections the process holds %+v; before, %+v", n, after, before)
		}
	}
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
