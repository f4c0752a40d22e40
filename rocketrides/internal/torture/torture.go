// Package torture runs the whole system under load, on servers and processes of
// its own, does to it everything that it can think of, audits it all the time,
// and sees at the end that nothing was lost, doubled or reordered.
package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	logengine "github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/redisnodes"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
	"github.com/rocketrides/unilog/switchlog"
)

// Config says what to run.
type Config struct {
	// Command is this program, whose subcommands are the processes.
	Command string
	// Migrate makes the tables.
	Migrate func(ctx context.Context, databaseURL string) error
	// DataDir is where everything is kept that the run leaves behind. It must
	// not exist, or be empty. It is removed if the run found nothing wrong.
	DataDir string
	// Engine is what the log is in: redis, sentinel, cluster, kafka, kafka3 (three
	// brokers) or postgres.
	Engine string
	// Partitions is how many the log begins with. Instances is how many processes
	// each consumer has, Streamers how many streamers there are.
	Partitions, Instances, Streamers int
	// Rate is how many rides to book a second.
	Rate float64
	// Faults are the names of those to inject. They come one at a time, at this
	// beat, if Every is not 0.
	Faults []string
	Every  time.Duration
	// Each has each of them come once at least, also when For is over.
	Each bool
	// Patience is when the system is taken to be stuck: after a fault is over, at the
	// beginning, and at the end.
	Patience time.Duration
	// Seed makes the choice of faults, and the rides, repeatable.
	Seed uint64
	// For is how long faults are injected.
	For time.Duration
	// Out takes the report. Live says that it is a terminal.
	Out  io.Writer
	Live bool
}

// ErrViolated is that a promise was not kept; what was, is printed.
var ErrViolated = errors.New("a promise was broken")

const (
	stream = "rocket-rides-log"
	// self names the connections of the torture's own, which are spared.
	self = "torture"
)

// torture is one run.
type torture struct {
	Config
	random   *rand.Rand
	children []*child
	system   *up.System
	db       *pgxpool.Pool
	engine   engine
	logURL   string            // "" of one Redis
	redis    rueidis.Client    // nil of all engines but one Redis
	nodes    *redisnodes.Nodes // nil of all engines but several
	kafka    *kafka.Cluster    // nil of all other engines
	servers  sync.Mutex        // held by faults of nodes and of Kafka
	log      switchlog.Engine
	watch    *watch
	pauses   pauses
	tally    tally
	journal  *journal
	began    time.Time
	deleted  int64 // entries of the stream
}

// Run runs it, prints the report, and returns an error that wraps ErrViolated
// if a promise was broken.
func Run(ctx context.Context, cfg Config) error {
	t := &torture{Config: cfg, random: rand.New(rand.NewPCG(cfg.Seed, 0)), watch: newWatch()}
	t.tally.counts = map[string]*count{}
	t.pauses.standing = map[place]standing{}
	t.engine = engineOf(cfg.Engine)
	port := freeport.Next()
	if err := makeEmpty(cfg.DataDir); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	t.journal = &journal{path: filepath.Join(cfg.DataDir, "processes.log")}
	defer t.journal.Close()
	if err := t.addChildren(port); err != nil {
		return err
	}
	defer t.closeChildren()
	err := up.Run(ctx, up.Config{
		DataDir: cfg.DataDir,
		NoRedis: t.engine.start != nil,
		Port:    port,
		Vars:    []string{"STREAM_NAME=" + stream, "API_PORT=" + strconv.Itoa(port)},
		Prepare: t.prepare,
		Writers: t.group(simulatorRole, apiRole),
		Readers: t.group(streamerRole, consumerRole),
		During:  t.during,
		Output:  t.journal,
	})
	t.closeClients()
	err = errors.Join(err, t.stopLog())
	switch {
	case errors.Is(err, ErrViolated):
		fmt.Fprintf(cfg.Out, "\nEverything is kept in %[1]s: what the processes said in processes.log, and the servers' state.\n"+
			"To look at it: %[2]s up --servers-only --data-dir %[1]s\n", cfg.DataDir, cfg.Command)
		return err
	case err != nil && ctx.Err() == nil:
		return fmt.Errorf("%w (what the processes said is in %s)", err, t.journal.path)
	}
	return errors.Join(err, up.Remove(context.WithoutCancel(ctx), cfg.DataDir))
}

// makeEmpty makes a directory. What is in one already is not to be tortured,
// let alone removed.
func makeEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: choose another with --data-dir", dir)
	}
	return os.MkdirAll(dir, 0o755)
}

// journal is a file that is made when something is written to it. It is safe
// for concurrent use.
type journal struct {
	path string

	mu   sync.Mutex
	file *os.File
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		file, err := os.OpenFile(j.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		j.file = file
	}
	return j.file.Write(p)
}

func (j *journal) Close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// prepare opens the torture's own ways to the servers, and those of the
// processes, which can be disturbed.
func (t *torture) prepare(ctx context.Context, databaseURL, redisURL string) error {
	if err := t.Migrate(ctx, databaseURL); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return err
	}
	config.ConnConfig.ConnectTimeout = mendTimeout // looks have a bound of their own
	config.MaxConns = 10                           // of audits, faults and a log in Postgres
	config.ConnConfig.RuntimeParams["application_name"] = self
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "off" // whatever the fault
	if t.db, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	if _, err := migration.Repartition(ctx, t.db, t.Partitions); err != nil {
		return err
	}
	if err := t.startLog(ctx); err != nil {
		return err
	}
	if err := eventually(ctx, mendTimeout, func(ctx context.Context) (err error) {
		t.log, err = logengine.At(ctx, logengine.Options{URL: cmp.Or(t.logURL, redisURL), Stream: stream, DB: t.db})
		return err
	}); err != nil {
		return err
	}
	if t.logURL == "" {
		if err := t.connectRedis(redisURL); err != nil {
			return err
		}
	}
	for _, c := range t.children {
		if err := c.connect(databaseURL, redisURL, t.logURL); err != nil {
			return err
		}
	}
	return nil
}

// connectRedis is for the faults of one Redis.
func (t *torture) connectRedis(redisURL string) error {
	option, err := rueidis.ParseURL(redisURL)
	if err != nil {
		return err
	}
	option.DisableCache = true
	option.ClientName = self
	t.redis, err = rueidis.NewClient(option)
	return err
}

func (t *torture) closeClients() {
	if t.db != nil {
		t.db.Close()
	}
	if t.log != nil {
		t.log.Close()
	}
	if t.redis != nil {
		t.redis.Close()
	}
}

// during is what happens while everything runs.
func (t *torture) during(ctx context.Context, system *up.System) error {
	t.system = system
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	audited := make(chan error, 1)
	go func() {
		err := t.watch.run(ctx, t.db)
		cancel(err)
		audited <- err
	}()
	err := t.script(ctx)
	cancel(nil)
	if violation := <-audited; violation != nil {
		err = violation
	}
	t.clearLine()
	if err != nil && !errors.Is(err, ErrViolated) {
		return err
	}
	t.printFaults()
	if err != nil {
		for _, c := range t.children { // what there is must not change any more
			_ = t.system.Signal(c.name, syscall.SIGSTOP)
		}
		fmt.Fprintln(t.Out, err)
		return err
	}
	return t.judge(context.WithoutCancel(ctx))
}

// script injects faults for the time asked for and then lets everything settle.
func (t *torture) script(ctx context.Context) error {
	fmt.Fprintf(t.Out, "torture of %s for %v at %g rides a second, %d partitions, %d instances of a consumer, %d streamers, seed %d, in %s\n",
		t.engine.name, t.For, t.Rate, t.Partitions, t.Instances, t.Streamers, t.Seed, t.DataDir)
	if err := t.watch.await(ctx, time.Now(), t.Patience); err != nil {
		return fmt.Errorf("the system does not work even when left alone: %w", err)
	}
	t.began = time.Now()
	t.watch.forget()
	stopLive := t.live(ctx)
	defer stopLive()
	if err := t.measured(ctx, t.injectFaults); err != nil {
		return err
	}
	if err := t.eachAlone(ctx); err != nil {
		return err
	}
	t.system.StopWriters()
	if err := t.watch.awaitRest(ctx, t.Patience); err != nil {
		return fmt.Errorf("%w: %w", ErrViolated, err)
	}
	return nil
}

// measured does something and measures pauses meanwhile.
func (t *torture) measured(ctx context.Context, do func(context.Context) error) error {
	measuring, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { t.pauses.run(measuring, t.db, t.tally.now) })
	defer work.Wait()
	defer stop()
	return do(ctx)
}
