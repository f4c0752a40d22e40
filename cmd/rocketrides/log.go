package main

import (
	"log/slog"
	"os"
	"strconv"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// newLogger writes lines that a person follows, in colour on a terminal, and
// more of them if VERBOSE says so.
func newLogger() *slog.Logger {
	level := slog.LevelInfo
	if verbose, err := strconv.ParseBool(os.Getenv("VERBOSE")); err == nil && verbose {
		level = slog.LevelDebug
	}
	return slog.New(tint.NewTextHandler(os.Stdout, &tint.Options{
		Level:      level,
		TimeFormat: "15:04:05.000",
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if err, ok := a.Value.Any().(error); ok {
				a.Value = slog.StringValue(oneLine(err))
			}
			return a
		},
		NoColor: !wantColor(),
	}))
}

// wantColor follows the conventions NO_COLOR and FORCE_COLOR.
func wantColor() bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	return os.Getenv("FORCE_COLOR") != "" || term.IsTerminal(int(os.Stdout.Fd()))
}
