package manual

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/alecthomas/kong"
)

// Man writes the manual page of a program, in section 1, for man(1).
func Man(w io.Writer, app *kong.Application, version string, date time.Time) error {
	p := &page{}
	p.line(`.TH "%s" "1" "%s" "%s" "User Commands"`, strings.ToUpper(app.Name), date.UTC().Format(time.DateOnly), text(app.Name+" "+version))
	// A page whose lines are filled up to both margins has gaps, and hyphens in names.
	p.line(".ad l")
	p.line(".nh")
	p.line(".SH NAME")
	p.line("%s", text(app.Name)+` \-`+"\n"+strings.Join(wrap(strings.Fields(strings.TrimSuffix(app.Help, "."))), "\n"))
	p.line(".SH SYNOPSIS")
	p.line(`\fB%s\fR \fIcommand\fR [\fIflags\fR]`, text(app.Name))
	p.line(".SH OPTIONS")
	p.line("These are of every command.")
	for _, f := range flags(app.Node) {
		p.flag(f)
	}
	p.line(".SH COMMANDS")
	for _, n := range nodes(app.Node)[1:] {
		if n.Leaf() {
			p.command(n)
		}
	}
	p.line(".SH ENVIRONMENT")
	p.line("%s", sentence("A flag wins over its variable. Variables may also be in a file .env of the working directory."))
	p.environment(app.Node)
	p.line(".SH EXIT STATUS")
	for _, status := range [][2]string{{"0", "It has done what it was to do."}, {"1", "It has failed, and says why in one line."}, {"2", "Its words or settings are off."}} {
		p.line(".TP\n.B %s\n%s", status[0], status[1])
	}
	_, err := io.WriteString(w, p.String())
	return err
}

type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *page) command(n *kong.Node) {
	p.line(`.SS "%s"`, text(path(n)))
	p.line("%s", sentence(n.Help))
	if n.Detail != "" {
		p.line(".PP\n%s", sentence(n.Detail))
	}
	for _, v := range n.Positional {
		p.line(".TP\n\\fI%s\\fR\n%s", text(v.Summary()), sentence(v.Help))
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			if !slices.Contains(flags(root(n)), f) {
				p.flag(f)
			}
		}
	}
}

func root(n *kong.Node) *kong.Node {
	for n.Parent != nil {
		n = n.Parent
	}
	return n
}

func (p *page) flag(f *kong.Flag) {
	p.line(".TP")
	name := `\fB` + text(strings.Join(names(f), ", ")) + `\fR`
	if takesValue(f) {
		name += `=\fI` + text(f.FormatPlaceHolder()) + `\fR`
	}
	p.line("%s", name)
	help := f.Help
	if f.Required {
		help += " Required."
	}
	if len(f.Envs) > 0 {
		help += " ($" + strings.Join(f.Envs, ", $") + ")"
	}
	p.line("%s", sentence(help))
}

// environment lists the variables, and the flags that they stand for.
func (p *page) environment(app *kong.Node) {
	stands := map[string][]string{}
	var all []string
	for _, n := range nodes(app) {
		for _, f := range n.Flags {
			for _, env := range f.Envs {
				if stands[env] == nil {
					all = append(all, env)
				}
				if !slices.Contains(stands[env], long(f)) {
					stands[env] = append(stands[env], long(f))
				}
			}
		}
	}
	slices.Sort(all)
	for _, env := range all {
		p.line(".TP\n.B %s\n%s", text(env), sentence("as "+strings.Join(stands[env], ", ")))
	}
}

// sentence is a paragraph or several. What is indented keeps its lines.
func sentence(s string) string {
	var lines []string
	indented := false
	for line := range strings.Lines(strings.TrimSpace(s)) {
		words := strings.Fields(line)
		if len(words) == 0 {
			lines = append(lines, ".PP")
			continue
		}
		was := indented
		if indented = strings.HasPrefix(line, " "); (indented || was) && len(lines) > 0 && lines[len(lines)-1] != ".PP" {
			lines = append(lines, ".br")
		}
		lines = append(lines, wrap(words)...)
	}
	return strings.Join(lines, "\n")
}

// wrap makes lines of at most 80 bytes, as long as no word is longer.
func wrap(words []string) (lines []string) {
	line := ""
	for _, word := range words {
		word = text(word)
		if line != "" && len(line)+1+len(word) > 80 {
			lines = append(lines, line)
			line = ""
		}
		if line == "" && strings.ContainsAny(word[:1], ".'") { // or else it would be a macro
			word = `\&` + word
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// text is what roff prints as it is, wherever it knows only ASCII.
func text(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '…':
			b.WriteString("...") // which every terminal has
		case r > unicode.MaxASCII:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
