package dashboard

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/version"
)

//go:embed page
var pageFiles embed.FS

const (
	// pingPause keeps streams alive through whatever ends silent connections.
	pingPause = 15 * time.Second
	// sendTimeout bounds the sending of one event.
	sendTimeout = 5 * time.Second
)

// handler answers everything, see the package's comment.
func (d *Dashboard) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
	})
	mux.HandleFunc("GET /events", d.stream)
	if d.acts() {
		mux.HandleFunc("POST /actions", d.act)
	}
	servePage(mux, d.words)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		if !d.isOurs(r) {
			refuse(w, http.StatusMisdirectedRequest, "this host name is not the dashboard's: use http://"+d.cfg.Addr)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// isOurs says whether a request names this machine itself, or the address it came
// in by. Any other name may be one that a stranger's page has given this address,
// to read what only this machine should.
func (d *Dashboard) isOurs(r *http.Request) bool {
	name := r.Host
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		name = host
	}
	listens, _, _ := net.SplitHostPort(d.cfg.Addr)
	if strings.EqualFold(name, "localhost") || strings.EqualFold(name, listens) {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(name, "[]"))
	if err != nil {
		return false
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ip.IsLoopback() || ok && local.AddrPort().Addr().Unmap() == ip.Unmap()
}

// servePage serves the files of the page, which browsers keep and ask about again.
func servePage(mux *http.ServeMux, words phrases) {
	_ = fs.WalkDir(pageFiles, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := pageFiles.ReadFile(name)
		if err != nil {
			return err
		}
		pattern := "GET /" + strings.TrimPrefix(name, "page/")
		if pattern == "GET /index.html" {
			pattern = "GET /{$}"
			var page bytes.Buffer
			if err := template.Must(template.New("page").Parse(string(data))).Execute(&page, words); err != nil {
				panic(err) // it is embedded
			}
			data = page.Bytes()
		}
		tag := fmt.Sprintf(`"%x"`, sha256.Sum256(data))
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", tag)
			w.Header().Set("Cache-Control", "no-cache")
			http.ServeContent(w, r, path.Base(name), time.Time{}, bytes.NewReader(data))
		})
		return nil
	})
}

// stream sends events until the viewer goes, falls behind, or all is over.
func (d *Dashboard) stream(w http.ResponseWriter, r *http.Request) {
	h := hello{Version: version.String(d.words.Program), Now: now(), Control: d.acts()}
	if h.Control {
		h.Token = d.token
	}
	v, err := d.hub.join(h)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer d.hub.leave(v)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // there is nothing to read any more
	ping := time.NewTicker(pingPause)
	defer ping.Stop()
	for {
		e := []byte(": ping\n\n")
		select {
		case <-v.gone:
			return
		case <-r.Context().Done():
			return
		case e = <-v.queue:
		case <-ping.C:
		}
		_ = out.SetWriteDeadline(time.Now().Add(sendTimeout))
		if _, err := w.Write(e); err != nil || out.Flush() != nil {
			return
		}
	}
}
