package world

import (
	"fmt"
	"slices"

	"github.com/rocketrides/unilog"
)

// Heard notes what observers are told.
type Heard []string

func (h *Heard) Add(format string, args ...any) { *h = append(*h, fmt.Sprintf(format, args...)) }

// Want sees that an observer was told just that.
func (h *Heard) Want(w *World, want ...string) {
	w.Helper()
	if !slices.Equal(*h, want) {
		w.Errorf("the observer was told\n%q, want\n%q", *h, want)
	}
}

// Span names entries by their first and last offset.
func Span(entries []unilog.Entry) string {
	return fmt.Sprintf("%d-%d", entries[0].Offset, entries[len(entries)-1].Offset)
}
