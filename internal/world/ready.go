package world

import (
	"fmt"
	"strings"
)

// WantReady sees that a process is ready, or says in one line why not.
func (w *World) WantReady(ready func() error, reason string) {
	w.Helper()
	err := ready()
	if reason == "" {
		if err != nil {
			w.Errorf("not ready: %v", err)
		}
	} else if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
		w.Errorf("Ready says %v, want one line with %q", err, reason)
	}
}

// AwaitNotReady waits for a process that runs beside the test, and says in one line why it
// is not ready.
func (w *World) AwaitNotReady(ready func() error, reason string) {
	w.Helper()
	w.Await("it not to be ready, and to say "+reason, func() string {
		err := ready()
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
			return fmt.Sprint("it says ", err)
		}
		return ""
	})
}

// AwaitReady waits for a process that runs beside the test: one that has just taken a
// partition is not ready before it has looked at it.
func (w *World) AwaitReady(ready func() error) {
	w.Helper()
	w.Await("it to be ready", func() string {
		if err := ready(); err != nil {
			return err.Error()
		}
		return ""
	})
}
