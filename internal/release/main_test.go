package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packed runs the program and returns the file that it has written.
func packed(t *testing.T, kind string, args ...string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if err := run(append([]string{kind, out, "1000000000"}, args...)); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// listed returns the files of a tar, and how each is.
func listed(t *testing.T, r io.Reader) (files map[string][]byte, how []string) {
	t.Helper()
	files = map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, how
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
		how = append(how, fmt.Sprintf("%s %o %d:%d %d", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.Unix()))
	}
}

func write(t *testing.T, mode os.FileMode, parts ...string) string {
	t.Helper()
	name := filepath.Join(parts...)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(filepath.Base(name)), mode); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestArchiveIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	var first []byte
	for range 2 { // files of other times, and of another mode where it does not matter
		dir := filepath.Join(t.TempDir(), "unilog-v1")
		write(t, 0o700|os.FileMode(len(first)%2), dir, "unilog")
		write(t, 0o600, dir, "man", "unilog.1")
		got := packed(t, "archive", dir)
		if first != nil && !bytes.Equal(got, first) {
			t.Error("the second one differs")
		}
		first = got
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	_, how := listed(t, unzipped)
	want := "unilog-v1/man/unilog.1 644 0:0 1000000000, unilog-v1/unilog 755 0:0 1000000000"
	if got := strings.Join(how, ", "); got != want {
		t.Errorf("it has %s, want %s", got, want)
	}
}

// TestImage reads the layout as a runtime does: each blob is what its name says.
func TestImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"unilog", "v1.2.3", "linux/amd64=" + write(t, 0o600, dir, "a"), "linux/arm64=" + write(t, 0o600, dir, "b")}
	content := packed(t, "image", args...)
	if !bytes.Equal(content, packed(t, "image", args...)) {
		t.Error("the second one differs")
	}
	files, _ := listed(t, bytes.NewReader(content))
	if string(files["oci-layout"]) != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", files["oci-layout"])
	}
	get := func(d descriptor, v any) {
		t.Helper()
		blob := files["blobs/"+strings.Replace(d.Digest, ":", "/", 1)]
		if got := fmt.Sprintf("sha256:%x", sha256.Sum256(blob)); got != d.Digest || len(blob) != d.Size {
			t.Fatalf("the blob of %s and %d bytes is %s, and has %d", d.Digest, d.Size, got, len(blob))
		}
		if raw, ok := v.(*[]byte); ok {
			*raw = blob
		} else if err := json.Unmarshal(blob, v); err != nil {
			t.Fatal(err)
		}
	}
	var top, index manifest
	if err := json.Unmarshal(files["index.json"], &top); err != nil {
		t.Fatal(err)
	}
	get(top.Manifests[0], &index)
	for i, want := range []string{"amd64 a", "arm64 b"} {
		var m manifest
		var c config
		var layer []byte
		get(index.Manifests[i], &m)
		get(*m.Config, &c)
		get(m.Layers[0], &layer)
		root, how := listed(t, bytes.NewReader(layer))
		if got := index.Manifests[i].Platform.Architecture + " " + string(root["unilog"]); got != want || c.Architecture != want[:5] || c.OS != "linux" {
			t.Errorf("it has %s, want %s: %+v", got, want, c)
		}
		if got := strings.Join(how, ", "); got != "tmp/ 1777 0:0 1000000000, unilog 755 0:0 1000000000" {
			t.Errorf("the files are %s", got)
		}
		if c.Config.User != nobody || strings.Join(c.Config.Entrypoint, " ") != "/unilog" || c.RootFS.DiffIDs[0] != m.Layers[0].Digest {
			t.Errorf("the configuration is %+v", c)
		}
	}
}
