// Package version says which build of a program this is.
package version

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// The linker sets these in what is released; see scripts/release.sh.
var release, commit string

// String names the program, its version, the commit and the Go that built it.
// What is not known is left out.
func String(program string) string {
	commit := commit
	if info, ok := debug.ReadBuildInfo(); ok {
		commit = cmp.Or(commit, revision(info.Settings))
	}
	text := program
	if number := Number(); number != "" {
		text += " " + number
	}
	if commit != "" {
		text += ", commit " + commit
	}
	return fmt.Sprintf("%s, %s", text, runtime.Version())
}

// Number is the version alone, empty if it is not known.
func Number() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return cmp.Or(release, info.Main.Version)
	}
	return release
}

// revision is the commit that was checked out, and whether files differed.
func revision(settings []debug.BuildSetting) string {
	revision, modified := "", ""
	for _, s := range settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = " and changes"
		}
	}
	if revision == "" {
		return ""
	}
	return revision + modified
}
