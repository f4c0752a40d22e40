package bench

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"
)

// measureAPI books as fast as the api takes it, on many connections and on one.
func measureAPI(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		url, err := w.startAPI(ctx)
		if err != nil {
			return err
		}
		loads := []int{64, 1}
		results := make([]loadResult, len(loads))
		for i, connections := range loads {
			w.progress.show(float64(i)/5, plural(connections, "connection"))
			if results[i], err = loadAPI(ctx, url, connections, false, w.d); err != nil {
				return w.blame(err)
			}
		}
		w.progress.show(2.0/5, "with keys")
		keyed, err := loadAPI(ctx, url, loads[0], true, w.d)
		if err != nil {
			return w.blame(err)
		}
		memory, known := w.programs[0].memory()
		if err := w.stop(); err != nil {
			return err
		}
		for i, connections := range loads {
			bare, err := w.pgbench(ctx, connections)
			if err != nil {
				return err
			}
			name := plural(connections, "connection")
			w.add(name, "rides/s", results[i].perSecond, bare)
			for _, q := range []float64{50, 99} {
				w.add(fmt.Sprintf("%s, p%g", name, q), "ms", milliseconds(results[i].latency.ValueAtPercentile(q)), bare.pace(connections))
			}
		}
		w.add(plural(loads[0], "connection")+", with Idempotency-Key", "rides/s", keyed.perSecond,
			limit{"without", results[0].perSecond})
		if known {
			w.add("memory at the most", "MB", memory, unlimited)
		}
		return nil
	})
}

// pace is how long a client takes for each of what it does, on average, in ms.
func (l limit) pace(clients int) limit {
	if l.value == 0 {
		return l
	}
	return limit{l.name + ", mean", 1000 * float64(clients) / l.value}
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

// startAPI starts the api on a free port and waits until it is ready.
func (w *world) startAPI(ctx context.Context) (url string, err error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		return "", err
	}
	if _, err := w.start("api", "--tls-cert=", "--tls-key=", fmt.Sprintf("--port=%d", port)); err != nil {
		return "", err
	}
	url = fmt.Sprintf("http://127.0.0.1:%d", port)
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	return url, w.await(ctx, func() (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return false, err
		}
		answer, err := client.Do(request)
		if err != nil {
			return false, nil // it does not listen yet
		}
		return answer.StatusCode == http.StatusOK, answer.Body.Close()
	})
}
