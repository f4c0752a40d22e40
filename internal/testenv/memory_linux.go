package testenv

import (
	"os"
	"syscall"
)

// memoryDir is where files are in memory, "" if they do not fit there. The tests
// make and drop hundreds of databases of 300 files: ext4 takes most of a run to
// find inodes for them, since it avoids those of the last seconds.
func memoryDir() string {
	const dir, least = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if syscall.Statfs(dir, &fs) != nil || fs.Bavail*uint64(fs.Bsize) < least {
		return ""
	}
	probe, err := os.MkdirTemp(dir, "rr-")
	if err != nil {
		return ""
	}
	_ = os.Remove(probe)
	return dir
}
