// Package manual writes a program's manual page, and what lets a shell complete its
// commands, from the model of its grammar.
package manual

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// nodes returns the program and its commands, each before its own, without those that
// are hidden.
func nodes(n *kong.Node) []*kong.Node {
	all := []*kong.Node{n}
	for _, child := range n.Children {
		if !child.Hidden {
			all = append(all, nodes(child)...)
		}
	}
	return all
}

// path is a command as it is typed after the program's name, and nothing for that.
func path(n *kong.Node) string {
	if n.Parent == nil {
		return ""
	}
	return strings.TrimSpace(path(n.Parent) + " " + n.Name)
}

// flags are those of a command, its parents' included.
func flags(n *kong.Node) []*kong.Flag { return slices.Concat(n.AllFlags(true)...) }

// takesValue says whether something must follow the flag.
func takesValue(f *kong.Flag) bool { return !f.IsBool() && !f.IsCounter() }

// choices are the only values of a flag, or none if there are others. An enum may have
// an empty one, which nobody types.
func choices(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return slices.DeleteFunc(v.EnumSlice(), func(choice string) bool { return choice == "" })
}

// takesFile says whether a flag's value is a file's name.
func takesFile(f *kong.Flag) bool { return f.PlaceHolder == "FILE" || f.PlaceHolder == "DIR" }

// long and short are the flag's names with their dashes.
func long(f *kong.Flag) string { return "--" + f.Name }

func short(f *kong.Flag) string {
	if f.Short == 0 {
		return ""
	}
	return "-" + string(f.Short)
}

// names are all names of a flag.
func names(f *kong.Flag) []string {
	all := []string{long(f)}
	if f.Tag.Negatable != "" {
		all = append(all, "--no-"+f.Name)
	}
	if s := short(f); s != "" {
		all = append(all, s)
	}
	return all
}
