package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
	"github.com/rocketrides/unilog/switchlog"
)

// closeTimeout bounds the farewell to Postgres, whose answer nobody needs.
const closeTimeout = time.Second

// Tests have more patience, on machines that are busy.
var (
	// connectTimeout bounds the first contact with a server, and each new
	// connection to Postgres, unless DATABASE_URL has a connect_timeout.
	connectTimeout = 3 * time.Second
	// handlerTimeout bounds one statement that adds up distances.
	handlerTimeout = 5 * time.Second
	// apiTimeout bounds what the api's requests ask of the database, and its wait for
	// them when it ends; 0 for the api's defaults.
	apiTimeout time.Duration
)

// schema is what the database of Rocket Rides needs.
var schema = []migration.Set{migration.Log, migration.Consumer, rides.MigrationSet}

type databaseFlags struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Postgres, such as postgres://user:password@host:5432/database; for TLS with sslmode=verify-full and sslrootcert, sslcert, sslkey."`
}

// open connects to the database, which must answer.
func (f *databaseFlags) open(ctx context.Context) (*pgxpool.Pool, error) {
	if f.DatabaseURL == "" {
		return nil, errors.New("DATABASE_URL is not set: set it, or run `rocketrides up`, which starts a private Postgres")
	}
	config, err := pgxpool.ParseConfig(f.DatabaseURL)
	if err != nil {
		return nil, urlError(err)
	}
	if misread(f.DatabaseURL, config) {
		return nil, errURL
	}
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, connectTimeout)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, config.ConnConfig.ConnectTimeout)
	defer cancel()
	if err := pool.Ping(ctx); err != nil {
		closePool(pool)
		return nil, fmt.Errorf("no answer from Postgres; check DATABASE_URL: %w", err)
	}
	return pool, nil
}

// urlError says nothing of what is in the URL, which may hold a password anywhere,
// unless it is sure to be about the files and words for TLS, which pgx tells by
// its text alone.
func urlError(err error) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) && parse.Unwrap() != nil && strings.Contains(err.Error(), "failed to configure TLS") {
		return fmt.Errorf("DATABASE_URL: sslmode, sslrootcert, sslcert or sslkey: %w", parse.Unwrap())
	}
	return errURL
}

var errURL = errors.New("DATABASE_URL is not a valid Postgres URL: it looks like postgres://user:password@host:5432/database, with /, ?, #, @ and % in the password written as %2F, %3F, %23, %40 and %25")

// connect opens the database and refuses one whose tables are not this
// program's.
func (f *databaseFlags) connect(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, pool.Config().ConnConfig.ConnectTimeout)
	defer cancel()
	err = pooled(unanswered(migration.Check(bounded, pool, schema...), "check DATABASE_URL, and see what holds it up"))
	var outdated *migration.OutdatedError
	if errors.As(err, &outdated) && outdated.Has < outdated.Want {
		err = fmt.Errorf("%w, by `rocketrides migrate`", err)
	}
	if err != nil {
		closePool(pool)
		return nil, err
	}
	return pool, nil
}

// closePool says goodbye to Postgres. A pool whose connection fell silent would
// wait for it longer than a process has time to end.
func closePool(db *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		db.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// unanswered says what to do about a call whose time is over.
func unanswered(err error, advice string) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("no answer from Postgres in time; %s: %w", advice, err)
}

// moreTime is for commands that have the flag.
const moreTime = "see that it is up and what holds it up, or give it more with --timeout"

// taskFlags are for commands that do one thing in the database and end.
type taskFlags struct {
	databaseFlags `embed:""`
	Timeout       time.Duration `default:"1m" help:"Give up when Postgres takes longer."`
}

// do connects and does it, within the timeout and what the task waits besides.
func (f *taskFlags) do(ctx context.Context, wait time.Duration, task func(ctx context.Context, db *pgxpool.Pool) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout+wait)
	defer cancel()
	db, err := f.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(db)
	return unanswered(task(ctx, db), moreTime)
}

// postgresAlone is the URL of a log that is the database's own archive.
const postgresAlone = "postgres:"

type logFlags struct {
	LogURL     string `name:"log-url" env:"LOG_URL" placeholder:"URL" help:"Where the log is, if not in the Redis of REDIS_URL: redis+cluster://, redis+sentinel://, kafka://host:9092/topic, or postgres: for the database itself."`
	RedisURL   string `name:"redis-url" env:"REDIS_URL" placeholder:"URL" help:"Redis, such as redis://host:6379/0 or unix:///path/redis.sock; for TLS, rediss://host:6380/0 with cacert, cert, key as in ?cacert=FILE."`
	StreamName string `name:"stream-name" env:"STREAM_NAME" default:"rocket-rides-log" help:"The Redis stream that is the log."`
}

// open opens the log where it is: at the URL, unless it was moved.
func (f *logFlags) open(ctx context.Context, db *pgxpool.Pool) (*switchlog.Log, error) {
	if f.LogURL == "" && f.RedisURL == "" {
		return nil, errors.New("REDIS_URL is not set: set it or LOG_URL, or run `rocketrides up`, which starts a private Redis")
	}
	return switchlog.Open(ctx, db, func(ctx context.Context, url string) (switchlog.Engine, error) {
		return f.openAt(ctx, db, url)
	})
}

// at returns the URL of the log, given the one that it has moved to, where that
// comes from, and what is there.
func (f *logFlags) at(moved string) (url, variable, what string) {
	switch {
	case moved != "":
		return moved, "log_places", "the log"
	case f.LogURL != "":
		return f.LogURL, "LOG_URL", "the log"
	}
	return f.RedisURL, "REDIS_URL", "Redis"
}

// openAt opens the log at a URL, or at the one that was set.
func (f *logFlags) openAt(ctx context.Context, db *pgxpool.Pool, url string) (switchlog.Engine, error) {
	url, variable, what := f.at(url)
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	log, err := engine.At(ctx, url, f.StreamName, db)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s; check %s: %w", what, variable, err)
	}
	return log, nil
}

// redisOf returns the client of a log that is in Redis, else nil.
func redisOf(log switchlog.Engine) rueidis.Client {
	if moving, ok := log.(*switchlog.Log); ok {
		log = moving.Engine()
	}
	if redis, ok := log.(*redislog.Log); ok {
		return redis.Client()
	}
	return nil
}

type failureFlags struct {
	settingsFlags    `embed:""`
	SimulateFailures float64 `env:"SIMULATE_FAILURES" default:"0" placeholder:"P" help:"Fail on purpose after this share of batches, from 0 to 1: 0.1 is every tenth."`
	Seed             uint64  `env:"SEED" default:"0" help:"Makes random choices repeatable; 0 takes a new seed each time."`
}

// hook returns one that fails as asked for, and says so; nil if none ever is.
// Processes of different names fail at different times.
func (f *failureFlags) hook(ctx context.Context, log *slog.Logger, name, says string) (func(context.Context, []unilog.Entry) error, error) {
	if f.SimulateFailures == 0 && f.Settings == "" {
		return nil, nil
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	seed := cmp.Or(f.Seed, rand.Uint64()) ^ hash.Sum64()
	var fails atomic.Pointer[func(context.Context, []unilog.Entry) error]
	use := func(share float64) {
		hook := unilog.SimulateFailures(share, seed)
		fails.Store(&hook)
	}
	use(f.SimulateFailures)
	if err := f.follow(ctx, log, func(s up.Settings) { use(s.Failures) }); err != nil {
		return nil, err
	}
	return func(ctx context.Context, entries []unilog.Entry) error {
		err := (*fails.Load())(ctx, entries)
		if err != nil {
			log.Warn(says, "records", len(entries), "first", entries[0].Offset, "last", entries[len(entries)-1].Offset)
		}
		return err
	}, nil
}

func (f *failureFlags) Validate() error {
	if f.SimulateFailures < 0 || f.SimulateFailures >= 1 {
		return fmt.Errorf("--simulate-failures is %g: it must be at least 0 and below 1", f.SimulateFailures)
	}
	return nil
}
