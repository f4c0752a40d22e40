package unilog_test

import (
	"fmt"
)

// loseTail keeps the stream's first entries, as a replica would that was
// promoted before it had the rest.
func (w *world) loseTail(keep int) {
	w.Helper()
	entries, err := w.command("XRANGE", w.stream, "-", "+", "COUNT", fmt.Sprint(keep)).AsXRangeSlices()
	w.must(err)
	w.command("DEL", w.stream)
	for _, e := range entries {
		args := []string{"XADD", w.stream, e.ID}
		for _, f := range e.FieldValues {
			args = append(args, f.Field, f.Value)
		}
		w.command(args...)
	}
}
