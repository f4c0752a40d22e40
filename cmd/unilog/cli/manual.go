package cli

import (
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/unilog/cmd/unilog/manual"
	"github.com/rocketrides/unilog/internal/version"
)

// Completion prints a script for a shell, and needs no servers.
type Completion struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help says what to do with it.
func (Completion) Help() string {
	return "For bash, put `source <(${program} completion bash)` into ~/.bashrc. " +
		"For zsh, put `source <(${program} completion zsh)` into ~/.zshrc, after compinit. " +
		"For fish, write it to ~/.config/fish/completions/${program}.fish."
}

// Run prints it.
func (c Completion) Run(command *kong.Context) error {
	write := map[string]func() error{
		"bash": func() error { return manual.Bash(os.Stdout, command.Model) },
		"zsh":  func() error { return manual.Zsh(os.Stdout, command.Model) },
		"fish": func() error { return manual.Fish(os.Stdout, command.Model) },
	}
	return write[c.Shell]()
}

// Man prints the manual page, and needs no servers.
type Man struct{}

// Help says how to read it.
func (Man) Help() string { return "To read it, run `${program} man | man -l -`." }

// Run prints it. Its date is that of SOURCE_DATE_EPOCH, for builds that are the same
// every time.
func (Man) Run(command *kong.Context) error {
	date := time.Now()
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		date = time.Unix(seconds, 0)
	}
	return manual.Man(os.Stdout, command.Model, version.Number(), date)
}
