package deliverer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

func openFile(t *testing.T, path string) *deliverer.FileCheckpoints {
	t.Helper()
	c, err := deliverer.OpenFileCheckpoints(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheckpointsAreGuarded(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	file := openFile(t, filepath.Join(t.TempDir(), "checkpoints"))
	defer file.Close()
	for name, c := range map[string]deliverer.Checkpoints{"Postgres": deliverer.PostgresCheckpoints(w.DB), "file": file} {
		t.Run(name, func(t *testing.T) {
			key := deliverer.CheckpointKey{Name: "hook", LogID: "mine", Partition: 2}
			two, four := unilog.Cursor{Offset: 2, Position: "p2"}, unilog.Cursor{Offset: 4}
			want := func(key deliverer.CheckpointKey, want unilog.Cursor) {
				t.Helper()
				if at, err := c.Load(t.Context(), key); err != nil || at != want {
					t.Errorf("the checkpoint of partition %d is %+v, %v; want %+v", key.Partition, at, err, want)
				}
			}
			save := func(from, to unilog.Cursor, want error) {
				t.Helper()
				if err := c.Save(t.Context(), key, from, to); !errors.Is(err, want) {
					t.Errorf("from %d to %d: %v, want %v", from.Offset, to.Offset, err, want)
				}
			}
			want(key, unilog.Cursor{})
			save(unilog.Cursor{}, two, nil)
			save(unilog.Cursor{}, four, deliverer.ErrOvertaken)
			want(key, two)
			save(two, two, nil)
			save(two, four, nil)
			save(two, two, deliverer.ErrOvertaken)
			want(key, four)
			other := key
			other.Partition = 0
			want(other, unilog.Cursor{})
			key.LogID = "another"
			var foreign *deliverer.ForeignCheckpointError
			if _, err := c.Load(t.Context(), key); !errors.As(err, &foreign) || foreign.Theirs != "mine" {
				t.Errorf("of another log it says %v", err)
			}
			if err := c.Save(t.Context(), key, four, two); err == nil {
				t.Error("another log moves it")
			}
		})
	}
}

func TestFileCheckpointsSurviveACrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoints")
	key := deliverer.CheckpointKey{Name: "hook", LogID: "mine"}
	first := openFile(t, path)
	if err := first.Save(t.Context(), key, unilog.Cursor{}, unilog.Cursor{Offset: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := deliverer.OpenFileCheckpoints(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("to a second instance it says %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(t.Context(), key, unilog.Cursor{Offset: 7}, unilog.Cursor{Offset: 8}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed, it saves: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What a crash in the middle of writing leaves behind.
	if err := os.WriteFile(path+".tmp", whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	second := openFile(t, path)
	if at, err := second.Load(t.Context(), key); err != nil || at.Offset != 7 {
		t.Errorf("after a crash it is at %+v, %v", at, err)
	}
	// The old file is replaced, not written over: under another name it is whole.
	if err := os.Link(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := second.Save(t.Context(), key, unilog.Cursor{Offset: 7}, unilog.Cursor{Offset: 9}); err != nil {
		t.Error(err)
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || string(old) != string(whole) {
		t.Errorf("a save has changed the old file to %q, %v", old, err)
	}
	if _, err := second.Load(t.Context(), deliverer.CheckpointKey{Name: "other", LogID: "mine"}); err == nil || !strings.Contains(err.Error(), "those of hook") {
		t.Errorf("to another name it says %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	whole, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"cut short":    string(whole[:len(whole)-3]),
		"empty":        "",
		"one bit gone": strings.Replace(string(whole), `"offset":9`, `"offset":8`, 1),
		"one more":     string(whole) + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := deliverer.OpenFileCheckpoints(path); err == nil || !strings.Contains(err.Error(), path+" are damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDelivererSeesThatItsFileCannotBeWritten takes the directory away.
func TestDelivererSeesThatItsFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	dir := filepath.Join(t.TempDir(), "state")
	w.Must(os.Mkdir(dir, 0o700))
	file := openFile(t, filepath.Join(dir, "checkpoints"))
	defer file.Close()
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Checkpoints = file })
	w.Must(os.Rename(dir, dir+"-away"))
	if n, err := d.RunOnce(w.Ctx); n != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its directory: %d, %v", n, err)
	}
	w.Must(os.Rename(dir+"-away", dir))
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 1, 2, 3)
}

// TestDelivererReadsAllPartitions gives a log more partitions while it is read,
// and then another process the file.
func TestDelivererReadsAllPartitions(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	append_ := func(partition, partitions int, offsets ...int64) {
		w.Helper()
		term := unilog.Term{Partition: partition, Partitions: partitions, LogID: "three", Epoch: 1}
		_, err := w.Log.Claim(w.Ctx, term)
		w.Must(err)
		for _, offset := range offsets {
			_, err := w.Log.Append(w.Ctx, term, []unilog.Entry{{Record: world.Record("1"), Partition: partition, Offset: offset}})
			w.Must(err)
		}
	}
	var outside world.Arrivals
	path := filepath.Join(t.TempDir(), "checkpoints")
	run := func(arrived int) {
		w.Helper()
		file := openFile(t, path)
		ctx, stop := context.WithCancel(w.Ctx)
		defer stop()
		d := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Checkpoints, cfg.Archive = file, nil })
		var process errgroup.Group
		process.Go(func() error { return d.Run(ctx) })
		await.Equal(t, "what arrived", 3, outside.Count)
		for partition := range 3 {
			append_(partition, 3, 4, 5)
		}
		await.Equal(t, "what arrived", arrived, outside.Count)
		stop()
		w.Must(process.Wait())
		w.Must(file.Close())
	}
	append_(1, 1, 1, 2, 3)
	append_(2, 1, 1, 2, 3)
	append_(0, 1, 1, 2, 3)
	run(15)
	for partition := range 3 {
		outside.WantAll(w, partition, 5)
	}
	w.Wipe()
}

// TestTwoDeliverers runs two instances of a name that crash after they have
// delivered and before they save. Both begin with the first entry.
func TestTwoDeliverers(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`
		CREATE TABLE moves (n bigint GENERATED ALWAYS AS IDENTITY, old bigint, new bigint);
		CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO moves (old, new) VALUES (OLD."offset", NEW."offset"); RETURN NEW; END $$;
		CREATE TRIGGER moves AFTER UPDATE ON checkpoints FOR EACH ROW EXECUTE FUNCTION note_move()`)
	w.Publish(100)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var all world.Arrivals
	var alone [2]world.Arrivals
	var processes errgroup.Group
	var crashes atomic.Int32
	var begun sync.WaitGroup
	begun.Add(len(alone))
	for i := range alone {
		begin := sync.OnceFunc(func() { begun.Done(); begun.Wait() })
		var mu sync.Mutex
		crash := unilog.SimulateFailures(0.3, uint64(i))
		d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
			begin()
			mu.Lock()
			defer mu.Unlock()
			return errors.Join(alone[i].Deliver(ctx, logID, entries), all.Deliver(ctx, logID, entries))
		}, func(cfg *deliverer.Config) {
			cfg.BatchRecords, cfg.Timeout = 1+2*i, await.Patience // for the other to begin
			cfg.Checkpoints = crashing{cfg.Checkpoints, func() error {
				err := crash(ctx, nil)
				if err != nil {
					crashes.Add(1)
				}
				return err
			}, func() error { return nil }}
		}, deliverer.Hurried)
		processes.Go(func() error { return d.Run(ctx) })
	}
	await.Equal(t, "the checkpoint", 100, w.Delivered)
	stop()
	w.Must(processes.Wait())
	all.WantAll(w, 0, 100)
	w.WantCount("moves back", world.Query[int](w, `SELECT count(*) FROM moves WHERE new < old`), 0)
	w.WantCount("moves over a hole", world.Query[int](w, `
		SELECT count(*) FROM (SELECT old, lag(new, 1, 0) OVER (ORDER BY n) AS before FROM moves) AS m WHERE old <> before`), 0)
	if n := all.Count(); crashes.Load() == 0 || n <= 100 {
		t.Errorf("%d deliveries of 100 entries with %d crashes, want more of both", n, crashes.Load())
	}
	for i := range alone {
		if len(alone[i].Offsets(0)) == 0 {
			t.Errorf("instance %d has delivered nothing", i)
		}
	}
}
