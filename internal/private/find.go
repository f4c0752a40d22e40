package private

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// finder finds binaries. Empty fields mean the machine's own.
type finder struct {
	path  string   // as in the environment
	globs []string // further directories
}

// elsewhere is where packages put binaries that are not on the PATH.
var elsewhere = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	"/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/local/sbin",
}

// dirs lists the directories to look in: the PATH's in order, then the others,
// highest version first.
func (f finder) dirs() []string {
	dirs := filepath.SplitList(cmp.Or(f.path, os.Getenv("PATH")))
	globs := f.globs
	if globs == nil {
		globs = elsewhere
		if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
			dirs = append(dirs, strings.TrimSpace(string(out)))
		}
	}
	for _, g := range globs {
		found, _ := filepath.Glob(g)
		slices.SortFunc(found, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
		dirs = append(dirs, found...)
	}
	return dirs
}

var digits = regexp.MustCompile(`[0-9]+`)

// number is the last number in s, 0 if there is none.
func number(s string) int {
	all := digits.FindAllString(s, -1)
	if len(all) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(all[len(all)-1])
	return n
}

// lookup returns the first executable of that name, "" if there is none.
func (f finder) lookup(names ...string) string {
	for _, dir := range f.dirs() {
		for _, name := range names {
			if path := executable(dir, name); path != "" {
				return path
			}
		}
	}
	return ""
}

func executable(dir, name string) string {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if !filepath.IsAbs(path) || err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return ""
	}
	return path
}

// postgres returns the directory of Postgres's binaries: those of the major
// version that made dir if made is not "", else the first found. Errors are
// *MissingError and *VersionError.
func (f finder) postgres(ctx context.Context, made, dir string) (string, error) {
	var installed []string
	for _, bin := range f.dirs() {
		server := executable(bin, "postgres")
		if server == "" {
			continue
		}
		// A link on the PATH often stands alone: its fellows are at its target.
		if real, err := filepath.EvalSymlinks(server); err == nil {
			bin = filepath.Dir(real)
		}
		if executable(bin, "initdb") == "" {
			continue
		}
		if made == "" {
			return bin, nil
		}
		major := majorOf(ctx, filepath.Join(bin, "postgres"))
		if major == made {
			return bin, nil
		}
		if major != "" && !slices.Contains(installed, major) {
			installed = append(installed, major)
		}
	}
	if len(installed) == 0 {
		return "", &MissingError{"Postgres", "postgresql (apt, dnf, brew)"}
	}
	slices.SortFunc(installed, func(a, b string) int { return cmp.Compare(number(b), number(a)) })
	return "", &VersionError{Dir: dir, Made: made, Installed: installed}
}

var version = regexp.MustCompile(`\) ([0-9]+)`)

// majorOf asks a postgres binary for its major version, "" if it won't say.
func majorOf(ctx context.Context, server string) string {
	if m := version.FindStringSubmatch(versionOf(ctx, server)); m != nil {
		return m[1]
	}
	return ""
}

// versionOf is what a binary answers to --version, "" if it does not.
func versionOf(ctx context.Context, server string) string {
	out, err := exec.CommandContext(ctx, server, "--version").Output()
	if err != nil {
		return ""
	}
	return string(out)
}
