package rides

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters bounds each of two generations of limiters: some 10 MB.
const maxLimiters = 1 << 16

// client is whose rate counts: a caller or, without tokens, a network.
type client struct {
	caller  string
	network netip.Addr
}

// clientOf takes a /64 of IPv6 for one client, which has that many addresses.
func clientOf(r *http.Request) client {
	if caller := callerOf(r.Context()); caller != everyone {
		return client{caller: caller}
	}
	// The zero address, which all share, is for what is no address, as of a unix socket.
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	addr := peer.Addr().Unmap()
	if addr.Is6() {
		network, _ := addr.Prefix(64) // has no zone
		addr = network.Addr()
	}
	return client{network: addr}
}

// limits are the clients' rates. It is safe for concurrent use.
//
// Limiters are kept in two generations. What was not used while one passed is
// dropped with it: a second later a limiter would be as full as a new one. When
// many clients fill a generation sooner, a client may get a new limiter too
// soon; it takes as many other clients, and each of them has a rate of its own.
type limits struct {
	perSecond int

	mu             sync.Mutex
	began          time.Time // of the younger generation
	younger, older map[client]*rate.Limiter
}

// allow takes one request from a client's rate, if there is one left.
func (l *limits) allow(c client, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.younger == nil || now.Sub(l.began) >= time.Second || len(l.younger) >= maxLimiters {
		l.older, l.younger, l.began = l.younger, map[client]*rate.Limiter{}, now
	}
	limiter := l.younger[c]
	if limiter == nil {
		if limiter = l.older[c]; limiter == nil {
			limiter = rate.NewLimiter(rate.Limit(l.perSecond), l.perSecond)
		}
		l.younger[c] = limiter
	}
	return limiter.AllowN(now, 1)
}
