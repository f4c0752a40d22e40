package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is what /proc counts a process's time in: 100 a second on all Linuxes that
// Go runs on.
const tick = 10 * time.Millisecond

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
		if u.process, err = cpuOf(p.Pid()); err != nil {
			return u, err
		}
		io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Pid()))
		if err != nil {
			return u, err
		}
		u.moved = sum(string(io), "rchar", "wchar")
	}
	if u.postgres, err = cpuOf(w.servers.postgres.Pid()); err != nil {
		return u, err
	}
	if err := w.db.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&u.wal); err != nil {
		return u, err
	}
	if w.logURL != "" {
		broker := w.servers.kafka.Brokers[0]
		if u.engine, err = cpuOf(broker.Pid()); err != nil {
			return u, err
		}
		u.disk, err = sizeOf(filepath.Join(broker.Data(), w.name+"-0"))
		return u, err
	}
	if u.engine, err = cpuOf(w.servers.redis.Pid()); err != nil {
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

// cpuOf returns the time for which a process and its children have computed, also
// those that have ended.
func cpuOf(pid int) (time.Duration, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// The name before may have anything in it.
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		own := path == fmt.Sprintf("/proc/%d/stat", pid)
		if !own && fields[1] != strconv.Itoa(pid) {
			continue
		}
		times := fields[11:13] // user and system
		if own {
			times = fields[11:15] // and those of its children that have ended
		}
		for _, text := range times {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", path, err)
			}
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
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
