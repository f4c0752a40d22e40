package manual

import (
	_ "embed"
	"io"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

var (
	//go:embed bash.tmpl
	bashText string
	//go:embed zsh.tmpl
	zshText string
	//go:embed fish.tmpl
	fishText string
)

// Bash writes a script for bash 3.2 and newer, which needs no other.
func Bash(w io.Writer, app *kong.Application) error { return write(w, bashText, app) }

// Zsh writes a script for zsh, to be sourced or to be found in its fpath.
func Zsh(w io.Writer, app *kong.Application) error { return write(w, zshText, app) }

// Fish writes a script for fish.
func Fish(w io.Writer, app *kong.Application) error { return write(w, fishText, app) }

// command is what a script knows of one.
type command struct {
	Path, Name, Help string
	// Function is a name for it that a shell takes for a function.
	Function string
	Commands []*command
	Flags    []flag
	// Choices are what its first word may be, if that is known.
	Choices []string
}

type flag struct {
	Names, Help string // the names with spaces between
	Long, Short string // without dashes
	Value       bool   // something must follow it
	File        bool   // the name of a file
	Choices     []string
}

func describe(n *kong.Node) *command {
	c := &command{Path: path(n), Name: n.Name, Help: oneLine(n.Help), Function: strings.ReplaceAll(strings.ReplaceAll(path(n), " ", "_"), "-", "_")}
	for _, child := range n.Children {
		if !child.Hidden {
			c.Commands = append(c.Commands, describe(child))
		}
	}
	for _, f := range flags(n) {
		d := flag{
			Names: strings.Join(names(f), " "), Help: oneLine(f.Help), Long: f.Name, Short: strings.TrimPrefix(short(f), "-"),
			Value: takesValue(f), File: takesFile(f), Choices: choices(f.Value),
		}
		c.Flags = append(c.Flags, d)
	}
	if len(n.Positional) > 0 {
		c.Choices = choices(n.Positional[0])
	}
	return c
}

// oneLine is the first sentence of a text.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if first, _, more := strings.Cut(s, ". "); more {
		return first
	}
	return strings.TrimSuffix(s, ".")
}

// all returns a command and those below it.
func (c *command) all() []*command {
	list := []*command{c}
	for _, child := range c.Commands {
		list = append(list, child.all()...)
	}
	return list
}

func write(w io.Writer, script string, app *kong.Application) error {
	t, err := template.New("completion").Funcs(template.FuncMap{"join": strings.Join, "quote": quote, "spec": zshSpec}).Parse(script)
	if err != nil {
		return err
	}
	top := describe(app.Node)
	return t.Execute(w, map[string]any{"Program": app.Name, "Function": strings.ReplaceAll(app.Name, "-", "_"), "All": top.all()})
}

// quote makes one word of a text for any of the shells.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// zshSpec writes a text for a list of descriptions, in which some characters mean
// something.
func zshSpec(s string) string {
	return quote(strings.NewReplacer(`\`, `\\`, ":", `\:`, "[", `\[`, "]", `\]`).Replace(s))
}
