package proxy

import (
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// awaitLoss waits until so many connections have lost something on their way.
func awaitLoss(t *testing.T, p *Proxy, d Direction, want int) {
	t.Helper()
	await.Equal(t, "connections that have lost something", want, func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for l := range p.links {
			if l.lost&d != 0 {
				n++
			}
		}
		return n
	})
}
