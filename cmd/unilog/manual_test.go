package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// everyFlag calls f with each command and each of its flags.
func everyFlag(t *testing.T, f func(path string, flag *kong.Flag)) {
	t.Helper()
	parser, err := program.Parser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	for _, leaf := range parser.Model.Leaves(true) {
		for _, group := range leaf.AllFlags(true) {
			for _, flag := range group {
				f(strings.TrimPrefix(leaf.Path(), "unilog "), flag)
			}
		}
	}
}

// TestManualPage: each command and flag is in it, and man's own tools have no complaint.
func TestManualPage(t *testing.T) {
	t.Parallel()
	r := execute(t, []string{"SOURCE_DATE_EPOCH=1000000000"}, "man")
	page := strings.ReplaceAll(r.out, `\-`, "-")
	if !strings.HasPrefix(page, `.TH "UNILOG" "1" "2001-09-09"`) {
		t.Errorf("it begins with %.60s", page)
	}
	sections := map[string]string{}
	for _, section := range strings.Split(page, "\n.SS ")[1:] {
		title, text, _ := strings.Cut(section, "\n")
		sections[strings.Trim(title, `"`)] = text
	}
	everyFlag(t, func(path string, flag *kong.Flag) {
		name := `\fB--` + flag.Name
		if !strings.Contains(sections[path], name) && !strings.Contains(page[:strings.Index(page, ".SH COMMANDS")], name) {
			t.Errorf("%s has no --%s", path, flag.Name)
		}
		for _, env := range flag.Envs {
			if !strings.Contains(page, "\n.B "+env+"\n") {
				t.Errorf("%s is missing", env)
			}
		}
	})
	for _, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, ".") && !regexp.MustCompile(`^\.(TH|SH|SS|TP|PP|br|B|ad|nh)\b`).MatchString(line) {
			t.Errorf("this line would be taken for a macro: %s", line)
		}
	}
	lints := map[string][]string{"mandoc": {"-T", "lint"}, "groff": {"-man", "-ww", "-Tascii", "-z"}}
	for tool, args := range lints {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Logf("%s is not installed: it has not looked at the page", tool)
			continue
		}
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(r.out)
		if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
			t.Errorf("%s says %v:\n%s", tool, err, said)
		}
	}
}

// TestCompletionKnowsEveryFlag, in each shell's script.
func TestCompletionKnowsEveryFlag(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]func(path, flag string) *regexp.Regexp{
		"bash": func(path, flag string) *regexp.Regexp {
			return regexp.MustCompile(`(?m)^\s*'` + path + `'\) words='[^']*--` + flag + " ")
		},
		"zsh": func(path, flag string) *regexp.Regexp {
			return regexp.MustCompile(`(?s)\n_unilog__` + strings.ReplaceAll(path, " ", "_") + `\(\) \{[^\n]*\n([^}][^\n]*\n)*\s*--` + flag + `=?\[`)
		},
		"fish": func(path, flag string) *regexp.Regexp {
			return regexp.MustCompile(`__unilog_at '` + path + `'" -l ` + flag + ` `)
		},
	} {
		r := execute(t, nil, "completion", shell)
		everyFlag(t, func(path string, flag *kong.Flag) {
			if !want(path, flag.Name).MatchString(r.out) {
				t.Errorf("%s: %s has no --%s", shell, path, flag.Name)
			}
		})
	}
}

// TestCompletionInBash presses the tab key, so to speak.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "unilog.bash")
	if err := os.WriteFile(script, []byte(execute(t, nil, "completion", "bash").out), 0o600); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"unilog lo":                                "log",
		"unilog log t":                             "tail",
		"unilog log tail --fol":                    "--follow",
		"unilog --log-level debug log sw":          "switch",
		"unilog --log-level = debug log sw":        "switch",
		"unilog --log-format ":                     "auto text json",
		"unilog --log-format = t":                  "text",
		"unilog deliver hook --format = cloud":     "cloudevents-structured cloudevents",
		"unilog deliver log --form":                "--format",
		"unilog deliver hook --secret-file " + dir: script[:len(dir)],
		"unilog completion ":                       "bash zsh fish",
		"unilog consumers seek --":                 "--help --log-level --log-format --version",
		"unilog nonsense ":                         "",
	} {
		cmd := exec.Command("bash", "--norc", "-c", `
			source "$1"
			shift
			COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
			_unilog_complete
			echo "${COMPREPLY[*]}"`, "bash", script)
		cmd.Args = append(cmd.Args, strings.Split(words, " ")...)
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || !strings.HasPrefix(got, want) || want == "" && !strings.HasPrefix(got, "migrate ") {
			t.Errorf("%q completes to %q, want %q (%v)", words, got, want, err)
		}
	}
}
