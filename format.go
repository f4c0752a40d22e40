package unilog

import (
	"fmt"
	"strconv"
)

// LogFormat is the format of the log and of the archive that this version reads and
// writes. It changes only when a reader of an earlier version would take a record for
// something else than it is, or miss it: see docs/stability.md.
const LogFormat = 1

// FormatError says that a newer version has written the log, or the archive, in a way that
// this one would misread. Nothing was read or written.
type FormatError struct {
	// Format is what was found there.
	Format string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("unilog: the log is of format %s, and this program knows format %d alone: run a newer version of the program, one as new as the streamers",
		e.Format, LogFormat)
}

// CheckFormat returns a [FormatError] unless the format that a log says it has is
// [LogFormat]. One that says nothing, "", is of format 1.
func CheckFormat(format string) error {
	if format == "" || format == strconv.Itoa(LogFormat) {
		return nil
	}
	return &FormatError{Format: format}
}
