package main

import (
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// newLogger writes lines that a person follows, in colour on a terminal.
func newLogger() *slog.Logger {
	return slog.New(tint.NewTextHandler(os.Stdout, &tint.Options{
		Level:      slog.LevelInfo,
		TimeFormat: "15:04:05.000",
		NoColor:    !wantColor(),
	}))
}

// wantColor follows the conventions NO_COLOR and FORCE_COLOR.
func wantColor() bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	return os.Getenv("FORCE_COLOR") != "" || term.IsTerminal(int(os.Stdout.Fd()))
}
