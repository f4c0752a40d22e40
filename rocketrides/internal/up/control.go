package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ControlVariable names, in the environment of a process with Control set, the
// unix socket on which the supervisor serves HTTP: GET /events, a stream of JSON
// objects, one a line; and POST /actions.
const ControlVariable = "ROCKETRIDES_CONTROL"

const (
	// maxSocketPath is what every system takes, with its final zero.
	maxSocketPath = 100
	// writeTimeout drops a subscriber that takes nothing.
	writeTimeout = 5 * time.Second
)

// control serves the control socket.
type control struct {
	path   string
	dir    string // made for the socket, if the data directory's path is too long
	server *http.Server
	ended  chan struct{}
}

func startControl(ctx context.Context, dir *dataDir, events *events, act func(context.Context, Action) error) (*control, error) {
	c := &control{ended: make(chan struct{})}
	listener, err := c.listen(ctx, dir.server("control"))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { serveEvents(w, r, events) })
	mux.HandleFunc("POST /actions", func(w http.ResponseWriter, r *http.Request) { serveAction(w, r, act) })
	c.server = &http.Server{Handler: mux, ReadTimeout: 10 * time.Second}
	go func() {
		defer close(c.ended)
		_ = c.server.Serve(listener)
	}()
	return c, nil
}

// listen makes the socket in a directory that nobody else can enter.
func (c *control) listen(ctx context.Context, dir string) (net.Listener, error) {
	if len(filepath.Join(dir, "socket")) > maxSocketPath {
		made, err := os.MkdirTemp("", "rocketrides-")
		if err != nil {
			return nil, err
		}
		dir, c.dir = made, made
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	c.path = filepath.Join(dir, "socket")
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", c.path)
	if err != nil {
		return nil, err
	}
	return listener, os.Chmod(c.path, 0o600)
}

// close ends what is served. Subscribers have been told that it is over.
func (c *control) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		_ = c.server.Close()
	}
	<-c.ended
	if c.dir != "" {
		_ = os.Remove(c.dir)
	}
}

func serveEvents(w http.ResponseWriter, r *http.Request, events *events) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := events.subscribe()
	// At once when he leaves: there may be nothing to tell him for long.
	defer context.AfterFunc(r.Context(), func() { events.unsubscribe(lines) })()
	defer events.unsubscribe(lines)
	out := http.NewResponseController(w)
	for line := range lines {
		if out.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return
		}
		if _, err := w.Write(line); err != nil || out.Flush() != nil {
			return
		}
	}
}

func serveAction(w http.ResponseWriter, r *http.Request, act func(context.Context, Action) error) {
	var a Action
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10))
	body.DisallowUnknownFields()
	status, err := http.StatusBadRequest, body.Decode(&a)
	if err != nil {
		err = fmt.Errorf(`the body must be {"action":"…","target":"…","value":0}: %w`, err)
	} else {
		status, err = http.StatusConflict, act(r.Context(), a)
	}
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": oneLine(err)})
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
