// Package documents sees that what the documents show of a program is what the program
// prints: its commands and flags, and what each of the commands answers.
package documents

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Root is the folder of the repository, seen from the folder of a test.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(".")
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "docs", "README.md")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatalf("no folder above %s has the documents: %v", dir, err)
	return ""
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// all returns the texts of all documents, by their paths.
func all(t testing.TB) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "examples/*.md", "examples/*/*.md"} {
		paths, _ := filepath.Glob(filepath.Join(Root(t), pattern))
		for _, path := range paths {
			name, err := filepath.Rel(Root(t), path)
			if err != nil {
				t.Fatal(err)
			}
			docs[name] = read(t, name)
		}
	}
	if len(docs) < 20 {
		t.Fatalf("only %d documents: are these all?", len(docs))
	}
	return docs
}

var (
	fence   = regexp.MustCompile("(?ms)^ *```\\w*\n(.*?)^ *```")
	span    = regexp.MustCompile("`([^`]+)`")
	comment = regexp.MustCompile(`(^|\s)#.*`)
	word    = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)
)

// code returns what is set as code: the lines of blocks, and what is in backticks.
func code(text string) (lines []string) {
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.Split(m[1], "\n")...)
	}
	text = fence.ReplaceAllString(text, "")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, line)
		}
	}
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		lines = append(lines, strings.ReplaceAll(m[1], "\n", " "))
	}
	return lines
}

// Help is what the program prints for --help, after the words of a command or none.
type Help func(command ...string) string

// CheckCommands sees that every command of the program that a document names is one, and
// that it has the flags. It returns how many there were.
func CheckCommands(t testing.TB, program string, help Help) (checked int) {
	t.Helper()
	commands := list(help())
	if len(commands) < 5 {
		t.Fatalf("the program names only %d commands:\n%s", len(commands), help())
	}
	helps := map[string]string{}
	for doc, text := range all(t) {
		for _, line := range code(text) {
			for _, words := range calls(line, program) {
				checked++
				command, flags := split(words, commands)
				if command == "" {
					t.Errorf("%s names `%s %s`, which is no command", doc, program, strings.Join(words, " "))
					continue
				}
				if helps[command] == "" {
					helps[command] = help(strings.Fields(command)...)
				}
				for _, flag := range flags {
					if !regexp.MustCompile(`(^|[\s,])` + flag + `\b`).MatchString(helps[command]) {
						t.Errorf("%s names `%s %s`, and %s has no %s", doc, program, strings.Join(words, " "), command, flag)
					}
				}
			}
		}
	}
	return checked
}

// list returns the commands that a help names.
func list(help string) (commands []string) {
	_, after, _ := strings.Cut(help, "\nCommands:\n")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z][a-z -]*[a-z])(?:  .*)?$`).FindAllStringSubmatch(after, -1) {
		commands = append(commands, m[1])
	}
	return commands
}

// calls returns the words that follow the program's name in a line, once for each time
// that it is called there.
func calls(line, program string) (found [][]string) {
	line = comment.ReplaceAllString(line, "")
	for _, part := range regexp.MustCompile(`[|;&()]+|\$\(`).Split(line, -1) {
		words := word.FindAllString(part, -1)
		for len(words) > 0 && (words[0] == "$" || regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0])) {
			words = words[1:]
		}
		if len(words) > 1 && strings.TrimPrefix(words[0], "bin/") == program && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
			found = append(found, words[1:])
		}
	}
	return found
}

// split returns the command that words begin with, or the group of some, and the flags
// among them. The command is empty if there is none.
func split(words, commands []string) (command string, flags []string) {
	text := strings.Join(words, " ") + " "
	for _, c := range commands {
		first, _, group := strings.Cut(c, " ")
		switch {
		case strings.HasPrefix(text, c+" ") && len(c) > len(command):
			command = c
		case group && command == "" && (len(words) == 1 || !regexp.MustCompile(`^[a-z]`).MatchString(words[1])) && words[0] == first:
			command = first
		}
	}
	for _, w := range words {
		if name, _, _ := strings.Cut(w, "="); strings.HasPrefix(w, "--") {
			flags = append(flags, name)
		}
	}
	return command, flags
}

// Step is a command that a document shows, and what it prints there.
type Step struct {
	Args   []string
	Output []string
}

// Steps returns the commands of the program that are shown in a document after "$ ", in
// their order.
func Steps(t testing.TB, doc, program string) (steps []Step) {
	t.Helper()
	inside := false
	for _, line := range strings.Split(read(t, doc), "\n") {
		text, block := strings.CutPrefix(line, "    ")
		command, isCommand := strings.CutPrefix(text, "$ "+program+" ")
		switch {
		case !block:
			inside = false
		case isCommand:
			var args []string
			for _, arg := range word.FindAllString(command, -1) {
				args = append(args, strings.Trim(arg, `'"`))
			}
			steps = append(steps, Step{Args: args})
			inside = true
		case inside:
			last := &steps[len(steps)-1]
			last.Output = append(last.Output, text)
		}
	}
	if len(steps) == 0 {
		t.Fatalf("%s shows no command of %s", doc, program)
	}
	return steps
}

// Output returns the lines that a document shows under the comment
// <!-- printed: NAME -->.
func Output(t testing.TB, doc, name string) []string {
	t.Helper()
	_, after, found := strings.Cut(read(t, doc), "<!-- printed: "+name+" -->\n")
	block := regexp.MustCompile("^\n*(?s:```\\w*\n(.*?)```|((?:    [^\n]*\n)+))").FindStringSubmatch(after)
	if !found || block == nil {
		t.Fatalf("%s has no block of code after <!-- printed: %s -->", doc, name)
	}
	return strings.Split(strings.TrimSpace(block[1]+block[2]), "\n")
}

// CheckLog sees that each line that a document shows of a log was printed, up to figures
// and spaces: several processes write it, in any order.
func CheckLog(t testing.TB, doc string, shown []string, printed string) {
	t.Helper()
	lines := shapes(strings.Split(printed, "\n"))
	for _, want := range shapes(shown) {
		if want != "…" && !slices.Contains(lines, want) {
			t.Errorf("%s shows\n%s\nwhich is not printed:\n%s", doc, want, printed)
		}
	}
}

// CheckLines sees that what a document shows is what was printed, line by line, up to
// figures and spaces. For a line "…" there may be any number of lines.
func CheckLines(t testing.TB, doc string, shown []string, printed string) {
	t.Helper()
	rest := shapes(strings.Split(printed, "\n"))
	leftOut := false
	for _, want := range shapes(shown) {
		if want == "…" {
			leftOut = true
			continue
		}
		at := slices.Index(rest, want)
		if at < 0 || at > 0 && !leftOut {
			t.Errorf("%s shows\n%s\nand not all that is printed comes before it, or it is not printed there:\n%s", doc, want, printed)
			return
		}
		rest, leftOut = rest[at+1:], false
	}
	if len(rest) > 0 && !leftOut {
		t.Errorf("%s does not show all that is printed: after it comes\n%s", doc, strings.Join(rest, "\n"))
	}
}

// shapes are the lines that are not empty without what differs from run to run.
func shapes(lines []string) (out []string) {
	figures := regexp.MustCompile(`\d+([.,:]\d+)*`)
	for _, line := range lines {
		if words := strings.Fields(figures.ReplaceAllString(line, "0")); len(words) > 0 {
			out = append(out, strings.Join(words, " "))
		}
	}
	return out
}
