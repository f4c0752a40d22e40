//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package deliverer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// FileCheckpoints keep the checkpoints of one deliverer in a file, for programs that
// cannot write to Postgres. A saved checkpoint survives a crash of the machine. The
// streamer goes by it only if it is told to keep records for what is reported to the log:
// else it drops records that were not delivered, too, when the retention is over.
type FileCheckpoints struct {
	path string

	mu    sync.Mutex
	lock  *os.File // nil when closed
	state fileState
}

// fileState is the content of the file: one line of JSON, and one with its CRC-32.
type fileState struct {
	Name       string            `json:"name"`
	Partitions map[int]filePlace `json:"partitions"`
}

type filePlace struct {
	LogID    string `json:"log_id"`
	Offset   int64  `json:"offset"`
	Position string `json:"position,omitempty"`
}

// OpenFileCheckpoints opens a file of checkpoints and locks it, by a file beside it
// whose name ends in .lock. The first Save creates the file. OpenFileCheckpoints fails
// if another process has the file open, or if it is damaged. Close unlocks it.
func OpenFileCheckpoints(path string) (*FileCheckpoints, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("unilog: lock the checkpoints: %w", err)
	}
	c := &FileCheckpoints{path: path, lock: lock}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("unilog: the checkpoints in %s are in use by another instance: stop it, or give this one a file of its own", path)
	case err != nil:
		err = fmt.Errorf("unilog: lock %s: %w", lock.Name(), err)
	default:
		err = c.read()
	}
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return c, nil
}

// Close unlocks the file, so that another instance can open it.
func (c *FileCheckpoints) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	lock := c.lock
	c.lock = nil
	return lock.Close()
}

// Load implements [Checkpoints].
func (c *FileCheckpoints) Load(_ context.Context, key CheckpointKey) (unilog.Cursor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.place(key)
}

// Save implements [Checkpoints].
func (c *FileCheckpoints) Save(_ context.Context, key CheckpointKey, from, to unilog.Cursor) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, err := c.place(key)
	switch {
	case err != nil:
		return err
	case at.Offset != from.Offset:
		return ErrOvertaken
	case to == at:
		return nil
	}
	next := fileState{key.Name, map[int]filePlace{}}
	for partition, place := range c.state.Partitions {
		next.Partitions[partition] = place
	}
	next.Partitions[key.Partition] = filePlace{key.LogID, to.Offset, to.Position}
	if err := c.write(next); err != nil {
		return fmt.Errorf("save the checkpoint: %w", err)
	}
	c.state = next
	return nil
}

// start registers a name that the file has no checkpoints of.
func (c *FileCheckpoints) start(_ context.Context, name string, archive *pgxpool.Pool, begin beginning) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.state.Partitions) > 0 {
		return nil
	}
	var from postgres.Querier
	if archive != nil {
		from = archive
	}
	after, logID, err := begin(from)
	if err != nil {
		return err
	}
	next := fileState{name, map[int]filePlace{}}
	for partition, offset := range after {
		next.Partitions[partition] = filePlace{LogID: logID, Offset: offset}
	}
	if err := c.write(next); err != nil {
		return fmt.Errorf("save the checkpoint: %w", err)
	}
	c.state = next
	return nil
}

// place returns the checkpoint of a key, or an error if the file is another name's or
// the checkpoint another log's.
func (c *FileCheckpoints) place(key CheckpointKey) (unilog.Cursor, error) {
	if c.lock == nil {
		return unilog.Cursor{}, fmt.Errorf("unilog: the checkpoints in %s: %w", c.path, os.ErrClosed)
	}
	if c.state.Name != "" && c.state.Name != key.Name {
		return unilog.Cursor{}, fmt.Errorf("unilog: the checkpoints in %s are those of %s: give %s a file of its own", c.path, c.state.Name, key.Name)
	}
	place, ok := c.state.Partitions[key.Partition]
	if ok && place.LogID != key.LogID {
		return unilog.Cursor{}, &ForeignCheckpointError{Key: key, Theirs: place.LogID}
	}
	return unilog.Cursor{Offset: place.Offset, Position: place.Position}, nil
}

func (c *FileCheckpoints) read() error {
	text, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unilog: read the checkpoints: %w", err)
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if !bytes.Equal(text, sealed(line)) || json.Unmarshal(line, &c.state) != nil {
		return fmt.Errorf("unilog: the checkpoints in %s are damaged: restore the file, or delete it to deliver everything again from the log's first record", c.path)
	}
	return nil
}

// sealed appends its checksum to a line.
func sealed(line []byte) []byte {
	return fmt.Appendf(nil, "%s\n%08x\n", line, crc32.ChecksumIEEE(line))
}

// write replaces the file by a new one. After a crash, either the old one or the new
// one is there, whole.
func (c *FileCheckpoints) write(state fileState) error {
	line, err := json.Marshal(state)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(c.path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(sealed(line))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), c.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(c.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
