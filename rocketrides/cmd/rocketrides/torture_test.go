package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/documents"
	"github.com/rocketrides/unilog/internal/testenv"
)

// startTorture runs it on a directory of the test's own.
func startTorture(t *testing.T, args ...string) (dir string, out *strings.Builder, wait func() error) {
	t.Helper()
	root := t.TempDir()
	if err := os.Chmod(filepath.Dir(root), 0o711); err != nil { // root's Postgres has to pass
		t.Fatal(err)
	}
	dir, out = filepath.Join(root, "data"), new(strings.Builder)
	ctx, cancel := context.WithCancel(context.Background())
	// Long before the test's patience ends, so that it says itself what it waits for.
	patience := fmt.Sprint("--patience=", await.Patience/2)
	cmd := command(ctx, t, nil, append([]string{"torture", "--data-dir", dir, patience}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = await.Patience // then it is killed
	progress := &noted{w: out}
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() { result <- cmd.Wait() }()
	ended := false
	wait = func() error {
		t.Helper()
		for before := -1; ; {
			select {
			case err := <-result:
				ended = true
				return err
			case <-time.After(await.Patience): // for one fault, not for all of them
				n := int(progress.n.Load())
				if n == before {
					t.Fatalf("waited %v for the torture to say more", await.Patience)
				}
				before = n
			}
		}
	}
	t.Cleanup(func() {
		cancel()
		if !ended {
			<-result
		}
	})
	return dir, out, wait
}

// noted counts what is written.
type noted struct {
	w io.Writer
	n atomic.Int64
}

func (n *noted) Write(p []byte) (int, error) {
	n.n.Add(int64(len(p)))
	return n.w.Write(p)
}

// TestTorture runs a short one, in which each sort of fault comes once.
func TestTorture(t *testing.T) {
	t.Parallel()
	dir, out, wait := startTorture(t, "--for=1ms", "--rate=100", "--seed=1",
		"--faults=kill-leader,kill-consumer,kill-redis,flush-redis,cut-connections,end-sessions,open-writer")
	if err := wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out.String(), "\nkept "); n != 8 || strings.Contains(out.String(), "BROKEN") {
		t.Errorf("%d promises are kept, want 8:\n%s", n, out)
	}
	const doc = "docs/rocketrides.md"
	documents.CheckLog(t, doc, documents.Output(t, doc, "make torture"), out.String())
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind: %v", dir, err)
	}
}

func TestTorturePostgres(t *testing.T) {
	t.Parallel()
	tortureEngine(t, "postgres", "kill-postgres")
}

func TestTortureCluster(t *testing.T) {
	t.Parallel()
	tortureEngine(t, "cluster", "reshard")
}

func TestTortureKafka(t *testing.T) {
	t.Parallel()
	testenv.NeedKafka(t)
	tortureEngine(t, "kafka", "kill-broker")
}

// tortureEngine runs a short one, of a fault of the engine's own servers.
func tortureEngine(t *testing.T, engine, fault string) {
	t.Helper()
	dir, out, wait := startTorture(t, "--engine", engine, "--partitions=2", "--streamers=1", "--for=1ms", "--every=10ms", "--rate=100", "--faults", fault)
	if err := wait(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if n := strings.Count(out.String(), "\nkept "); n != 8 || strings.Contains(out.String(), "BROKEN") {
		t.Errorf("%d promises are kept, want 8:\n%s", n, out)
	}
	if !strings.Contains(out.String(), " "+fault+" ") {
		t.Errorf("%s was not injected:\n%s", fault, out)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind: %v", dir, err)
	}
}

// TestTortureSparesWhatIsThere is about the data of others.
func TestTortureSparesWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "made-by-rocketrides")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	execute(t, nil, "torture", "--data-dir", dir).fails(t, 1, "is not empty: choose another with --data-dir")
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

// TestTortureFindsDamage damages a total for a moment.
func TestTortureFindsDamage(t *testing.T) {
	t.Parallel()
	dir, out, wait := startTorture(t, "--for=10m", "--rate=100", "--faults=cut-process")
	var db *pgx.Conn
	await.True(t, "the private Postgres to answer", func() bool {
		vars, err := godotenv.Read(filepath.Join(dir, "env"))
		if err != nil {
			return false
		}
		db, err = pgx.Connect(t.Context(), vars["DATABASE_URL"])
		return err == nil
	})
	defer db.Close(context.Background())
	await.True(t, "consumer1 to have a total", func() bool {
		tag, err := db.Exec(t.Context(), `UPDATE consumer_states SET total_distance = total_distance + 0.01 WHERE name = 'consumer1'`)
		return err == nil && tag.RowsAffected() == 1
	})
	err := wait()
	if err == nil || !strings.Contains(out.String(), "consumer1 disagrees with the database by -0.01 m") {
		t.Fatalf("%v\n%s", err, out)
	}
	_, look, _ := strings.Cut(out.String(), "To look at it: ")
	if !strings.Contains(look, "up --servers-only --data-dir "+dir) {
		t.Errorf("how to look at it is not said:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(dir, "processes.log")); err != nil {
		t.Error(err)
	}
}
