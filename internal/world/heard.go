package world

import (
	"fmt"
	"slices"
	"sync"

	"github.com/rocketrides/unilog"
)

// Heard notes what observers are told. It is safe for concurrent use, as observers must be.
type Heard struct {
	mu   sync.Mutex
	told []string
}

func (h *Heard) Add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, fmt.Sprintf(format, args...))
}

// Told returns what was told so far.
func (h *Heard) Told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.told)
}

// Forget forgets what was told so far.
func (h *Heard) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = nil
}

// Want sees that an observer was told just that.
func (h *Heard) Want(w *World, want ...string) {
	w.Helper()
	if told := h.Told(); !slices.Equal(told, want) {
		w.Errorf("the observer was told\n%q, want\n%q", told, want)
	}
}

// Span names entries by their first and last offset.
func Span(entries []unilog.Entry) string {
	return fmt.Sprintf("%d-%d", entries[0].Offset, entries[len(entries)-1].Offset)
}
