package cli

import (
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// LoggingFlags are for every command: a grammar embeds them.
type LoggingFlags struct {
	LogLevel  string `group:"Logging:" enum:"debug,info,warn,error" default:"${log_level}" env:"LOG_LEVEL" placeholder:"LEVEL" help:"Log what is at least that important: ${enum}. ${default} if not set."`
	LogFormat string `group:"Logging:" enum:"auto,text,json" default:"auto" env:"LOG_FORMAT" placeholder:"FORMAT" help:"How to log: text for people, json for programs; auto, if not set, is text on a terminal and json elsewhere."`
}

// logVars have the default of the level, which VERBOSE lowers.
func logVars() kong.Vars {
	if verbose, err := strconv.ParseBool(os.Getenv("VERBOSE")); err == nil && verbose {
		return kong.Vars{"log_level": "debug"}
	}
	return kong.Vars{"log_level": "info"}
}

// Logging returns the flags: see [Grammar].
func (f *LoggingFlags) Logging() *LoggingFlags { return f }

// Logger returns one that writes lines that a person follows, in colour on a terminal, or JSON.
func (f *LoggingFlags) Logger(out *os.File) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return nil, err
	}
	if f.Format(term.IsTerminal(int(out.Fd()))) == "json" {
		return slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: readable})), nil
	}
	return slog.New(TextHandler(out, level, WantColor())), nil
}

// TextHandler returns what writes lines for people.
func TextHandler(out io.Writer, level slog.Level, color bool) slog.Handler {
	return tint.NewTextHandler(out, &tint.Options{
		Level:       level,
		TimeFormat:  "15:04:05.000",
		ReplaceAttr: readable,
		NoColor:     !color,
	})
}

// Format is text or json, whatever was asked for.
func (f *LoggingFlags) Format(isTerminal bool) string {
	switch {
	case f.LogFormat != "auto":
		return f.LogFormat
	case isTerminal:
		return "text"
	}
	return "json"
}

// readable writes errors in one line and durations with their unit, and hides
// passwords.
func readable(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case error:
		a.Value = slog.StringValue(oneLine(v))
	case string:
		a.Value = slog.StringValue(redact(v))
	case time.Duration:
		a.Value = slog.StringValue(v.String())
	}
	return a
}

// WantColor follows the conventions NO_COLOR and FORCE_COLOR.
func WantColor() bool {
	if os.Getenv("NO_COLOR") != "" {
		return false
	}
	return os.Getenv("FORCE_COLOR") != "" || term.IsTerminal(int(os.Stdout.Fd()))
}
