package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rocketrides/unilog/internal/cputime"
)

// usage is what processes have used so far, by Linux's /proc, or what the log takes.
type usage struct {
	process, postgres, engine time.Duration // of the processor
	moved                     float64       // bytes that the process has read and written
	wal                       float64       // bytes
	memory, disk              float64       // bytes of the engine
	received, sent            float64       // bytes of Redis's clients
}

// used returns what a process, if any, and its servers have used.
func (w *world) used(ctx context.Context, p *program) (u usage, err error) {
	if p != nil {
		if u.process, err = cputime.Of(p.Pid()); err != nil {
			return u, err
		}
		io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Pid()))
		if err != nil {
			return u, err
		}
		u.moved = sum(string(io), "rchar", "wchar")
	}
	if u.postgres, err = cputime.Of(w.servers.postgres.Pid()); err != nil {
		return u, err
	}
	if err := w.db.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&u.wal); err != nil {
		return u, err
	}
	if w.logURL != "" {
		broker := w.servers.kafka.Brokers[0]
		if u.engine, err = cputime.Of(broker.Pid()); err != nil {
			return u, err
		}
		u.disk, err = sizeOf(filepath.Join(broker.Data(), w.name+"-0"))
		return u, err
	}
	if u.engine, err = cputime.Of(w.servers.redis.Pid()); err != nil {
		return u, err
	}
	info, err := w.servers.redisInfo(ctx)
	u.memory, u.disk = sum(info, "used_memory_dataset"), sum(info, "aof_current_size")
	u.received, u.sent = sum(info, "total_net_input_bytes"), sum(info, "total_net_output_bytes")
	return u, err
}

// sum adds up fields.
func sum(text string, names ...string) (total float64) {
	for _, name := range names {
		v, _ := strconv.ParseFloat(field(text, name), 64)
		total += v
	}
	return total
}

// sizeOf adds up the files in a directory, 0 if it does not exist.
func sizeOf(dir string) (bytes float64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		// Kafka's indexes are made large, and cut to size when they are full.
		if err != nil || entry.IsDir() || filepath.Ext(entry.Name()) != ".log" {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += float64(info.Size())
		}
		return err
	})
	return bytes, err
}
