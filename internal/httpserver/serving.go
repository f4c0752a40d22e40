package httpserver

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// serving knows what of a server still runs.
type serving struct {
	http   *http.Server
	inHand atomic.Int64   // requests
	conns  sync.WaitGroup // that are open

	// HTTP/2 runs handlers beside their connection: over ends those that have not
	// begun.
	handlers sync.RWMutex
	over     bool
}

// serving makes a server whose requests have the context.
func (s Server) serving(requests context.Context) *serving {
	r := &serving{}
	r.http = &http.Server{
		Handler:           r.handle(s.Handler),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		// Reading, the work and the answer, one after the other.
		WriteTimeout:   requestTimeout + s.WorkTimeout + answerTimeout,
		IdleTimeout:    keepAlive,
		MaxHeaderBytes: 16 << 10,
		TLSConfig:      s.TLS,
		// Else net/http answers OPTIONS * itself, which is no path here.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
		// A connection is new once, before its goroutine starts, and closed
		// once, when it ends; nothing here is ever hijacked.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				r.conns.Add(1)
			case http.StateClosed:
				r.conns.Done()
			default:
			}
		},
	}
	return r
}

func (r *serving) handle(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.handlers.RLock()
		defer r.handlers.RUnlock()
		if r.over {
			return
		}
		r.inHand.Add(1)
		defer r.inHand.Add(-1)
		// Whoever stands between may see the end of the request elsewhere, if
		// it also gives a length, and pass on another's as a part of it.
		if len(q.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, q)
	})
}

// finish closes what is left, and returns when nothing runs any more.
func (r *serving) finish() {
	_ = r.http.Close()
	r.conns.Wait()
	r.handlers.Lock()
	r.over = true
	r.handlers.Unlock()
}
