package private

import (
	"fmt"
	"strings"
)

// MissingError tells that a server is not installed on this machine.
type MissingError struct {
	Server   string // as a person calls it
	Packages string // what to install, per system
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is not installed: run `make run`, which installs it, or install %s", e.Server, e.Packages)
}

// VersionError tells that a data directory needs another major version of
// Postgres than those that are installed.
type VersionError struct {
	Dir       string
	Made      string   // the version that made the directory
	Installed []string // newest first
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s was made by Postgres %s, but Postgres %s is installed: install Postgres %s, or start afresh without the directory",
		e.Dir, e.Made, strings.Join(e.Installed, ", "), e.Made)
}

// RunningError tells that a server runs on the directory already.
type RunningError struct {
	Server string
	Dir    string
	Owner  int // process id of who started it; 0 if not known
}

func (e *RunningError) Error() string {
	by := ""
	if e.Owner > 0 {
		by = fmt.Sprintf(", started by process %d", e.Owner)
	}
	return fmt.Sprintf("%s runs on %s already%s: stop that, or use another directory", e.Server, e.Dir, by)
}

// StartError tells that a server ended before it answered.
type StartError struct {
	Server  string
	Reason  string // the last words of its log
	LogFile string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s did not start: %s (see %s)", e.Server, e.Reason, e.LogFile)
}
