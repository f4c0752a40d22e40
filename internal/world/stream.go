package world

import (
	"fmt"
)

// LoseTail keeps the stream's first entries, as a replica would that was
// promoted before it had the rest.
func (w *World) LoseTail(keep int) {
	w.Helper()
	entries, err := w.Command("XRANGE", w.Stream, "-", "+", "COUNT", fmt.Sprint(keep)).AsXRangeSlices()
	w.Must(err)
	w.Command("DEL", w.Stream)
	for _, e := range entries {
		args := []string{"XADD", w.Stream, e.ID}
		for _, f := range e.FieldValues {
			args = append(args, f.Field, f.Value)
		}
		w.Command(args...)
	}
}
