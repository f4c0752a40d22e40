package cli

import (
	"regexp"
	"slices"
	"strings"
)

// packages are those of the library that name themselves where their errors begin. That
// is for programs; a person reads who speaks at the beginning of the line.
var packages = regexp.MustCompile(`(^|: )(?:(?:unilog|redislog|kafkalog|pglog|switchlog): )+`)

// plain leaves the names of packages out of what errors say.
func plain(text string) string { return packages.ReplaceAllString(text, "$1") }

// oneLine writes an error in one line for a person: what it says twice once, no names of
// packages, and no passwords.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return redact(plain(strings.Join(parts, " ")))
}
