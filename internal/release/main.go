// Command release packs what scripts/release.sh has built, the same bytes each time.
//
//	release archive OUT.tar.gz SECONDS DIR
//	release image OUT.tar SECONDS NAME VERSION OS/ARCH=BINARY …
//
// SECONDS since 1970 are the time of all that is in it.
package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("archive OUT SECONDS DIR, or image OUT SECONDS NAME VERSION OS/ARCH=BINARY …")
	}
	seconds, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	out, err := os.Create(args[1])
	if err != nil {
		return err
	}
	at := time.Unix(seconds, 0).UTC()
	switch {
	case args[0] == "archive":
		err = archive(out, at, args[3])
	case args[0] == "image" && len(args) > 5:
		err = image(out, at, args[3], args[4], args[5:])
	default:
		err = fmt.Errorf("what is %v?", args)
	}
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return err
}

// archive writes a directory, with its own name in front, as a compressed tar.
func archive(out io.Writer, at time.Time, dir string) error {
	zip := gzip.NewWriter(out)
	pack := packer{tar.NewWriter(zip), at}
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error { // in order
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		rest, err := filepath.Rel(filepath.Dir(dir), name)
		if err != nil {
			return err
		}
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return pack.file(filepath.ToSlash(rest), mode, content)
	})
	if err == nil {
		err = pack.Close()
	}
	if err == nil {
		err = zip.Close()
	}
	return err
}

// packer writes files that are root's and have one time.
type packer struct {
	*tar.Writer
	at time.Time
}

func (p packer) file(name string, mode int64, content []byte) error {
	return p.entry(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content))}, content)
}

func (p packer) directory(name string, mode int64) error {
	return p.entry(&tar.Header{Typeflag: tar.TypeDir, Name: path.Clean(name) + "/", Mode: mode}, nil)
}

func (p packer) entry(h *tar.Header, content []byte) error {
	h.ModTime, h.Format = p.at, tar.FormatUSTAR
	err := p.WriteHeader(h)
	if err == nil {
		_, err = p.Write(content)
	}
	return err
}
