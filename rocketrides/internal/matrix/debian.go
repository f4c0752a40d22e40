package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// planned are the packages, in what apt says it would install. Those that are not the
// server's or libraries are for a system to be started.
var planned = regexp.MustCompile(`(?m)^Inst (\S+) \((\S+) `)

// debian gets programs of a package of a release of Debian's, which need not be this
// machine's: they run with the libraries of theirs. apt checks the signatures.
func debian(release, pkg string, programs ...string) func(context.Context, *shop, string) ([]string, error) {
	return func(ctx context.Context, s *shop, bin string) ([]string, error) {
		root, err := s.packages(ctx, release, pkg)
		if err != nil {
			return nil, fmt.Errorf("%s of Debian %s: %w", pkg, release, err)
		}
		loader, err := find(root, "lib/*-linux-gnu/ld-linux-*.so.*", "usr/lib/*-linux-gnu/ld-linux-*.so.*")
		if err != nil {
			return nil, err
		}
		kind := filepath.Base(filepath.Dir(loader))
		for _, name := range programs {
			path, err := find(root, "usr/bin/"+name, "usr/sbin/"+name, "usr/lib/postgresql/*/bin/"+name)
			if err != nil {
				return nil, err
			}
			err = script(bin, name, fmt.Sprintf("exec '%s' --library-path '%[2]s/lib/%[3]s:%[2]s/usr/lib/%[3]s' '%[4]s' \"$@\"",
				loader, root, kind, path))
			if err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}

// find returns the first file that there is.
func find(root string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("the packages have no %s", patterns[0])
}

// packages returns a directory with what is in a package and in the libraries that it
// needs.
func (s *shop) packages(ctx context.Context, release, pkg string) (string, error) {
	apt, err := s.apt(ctx, release)
	if err != nil {
		return "", err
	}
	plan, err := apt(ctx, "--simulate", "--no-install-recommends", "install", pkg)
	if err != nil {
		return "", err
	}
	wanted := []string{"download"}
	for _, m := range planned.FindAllStringSubmatch(plan, -1) {
		name := m[1]
		if name == pkg || name == strings.Replace(pkg, "-server", "-tools", 1) || strings.HasPrefix(name, "lib") || strings.HasPrefix(name, "lua-") || name == "zlib1g" {
			wanted = append(wanted, name+"="+m[2])
		}
	}
	if _, err := apt(ctx, wanted...); err != nil {
		return "", err
	}
	root, err := s.directory()
	if err != nil {
		return "", err
	}
	for _, p := range wanted[1:] {
		name, version, _ := strings.Cut(p, "=")
		deb, err := find(s.of(release), name+"_"+strings.ReplaceAll(version, ":", "%3a")+"_*.deb")
		if err == nil {
			err = s.command(ctx, "dpkg-deb", "-x", deb, root)
		}
		if err != nil {
			return "", err
		}
	}
	return root, os.Chmod(root, 0o755)
}

// of is where a release's packages and lists are kept.
func (s *shop) of(release string) string { return filepath.Join(s.cache, "debian-"+release) }

// apt returns apt-get, with a configuration for one release and nothing installed. Its
// lists are those of today.
func (s *shop) apt(ctx context.Context, release string) (func(context.Context, ...string) (string, error), error) {
	dir := s.of(release)
	run := func(ctx context.Context, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-qq"}, args...)...)
		cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(dir, "conf"))
		cmd.Dir = dir
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("apt-get: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return string(out), err
	}
	mirror, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(SITE)", "Label: Debian").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, errors.New("it needs apt-get: run this on Debian, or in a container of it")
	}
	site, _, _ := strings.Cut(string(mirror), "\n")
	if err == nil && site == "" {
		err = errors.New("apt-get knows no mirror of Debian's: run this on Debian, or in a container of it, after apt-get update")
	}
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	for name, text := range map[string]string{
		"status":  "",
		"sources": fmt.Sprintf("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", site, release),
		"conf": fmt.Sprintf(`Dir::State "%[1]s"; Dir::State::status "%[1]s/status"; Dir::Cache "%[1]s";
Dir::Etc::SourceList "%[1]s/sources"; Dir::Etc::SourceParts "%[1]s/none"; Dir::Etc::PreferencesParts "%[1]s/none";
APT::Sandbox::User ""; Acquire::Languages "none";
`, dir),
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	stamp := filepath.Join(dir, "updated")
	if info, e := os.Stat(stamp); err != nil || e == nil && time.Since(info.ModTime()) < 24*time.Hour {
		return run, err
	}
	if _, err = run(ctx, "update", "--error-on=any"); err == nil {
		err = os.WriteFile(stamp, nil, 0o644)
	}
	return run, err
}
