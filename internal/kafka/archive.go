package kafka

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// Most of what a broker computes in a short life is the loading and checking of its
// classes. A Java machine that ends in order can leave an archive of those that it has
// loaded, with which the next ones start in less than half the time. It is kept beside
// the jars, and is of no use to another Java than its own.

// archiveIn is the file for a Java with such a version.
func archiveIn(dir string, version []byte) string {
	sum := sha256.Sum256(version)
	return filepath.Join(dir, "classes-"+hex.EncodeToString(sum[:6])+".jsa")
}

// useArchive has Java start from the archive, if there is one.
func (c *Cluster) useArchive() {
	if _, err := os.Stat(c.archive); err == nil {
		c.arguments = append(c.arguments, "-XX:SharedArchiveFile="+c.archive)
		c.archive = ""
	}
}

// makeArchive has a broker leave an archive when it is told to end, if there is none.
func (c *Cluster) makeArchive(broker *exec.Cmd) {
	if c.making {
		broker.Args = slices.Insert(broker.Args, 1, "-XX:ArchiveClassesAtExit="+c.made())
	}
}

// made is where this process makes the archive: others may be at it, too.
func (c *Cluster) made() string { return fmt.Sprintf("%s.%d", c.archive, os.Getpid()) }

// keepArchive keeps what the broker left. That it left nothing only costs time.
func (c *Cluster) keepArchive() { _ = os.Rename(c.made(), c.archive) }
