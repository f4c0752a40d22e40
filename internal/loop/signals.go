package loop

import (
	"os"
	"os/signal"
	"syscall"
)

// EndSignals are those that tell a program to end: Ctrl-C, SIGTERM, and the end of its
// terminal, unless that is ignored, as under nohup.
func EndSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}
