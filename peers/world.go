package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private"
)

// world is a new Postgres and a new Redis, which sync each commit to disk, for one
// peer and one measurement.
type world struct {
	peer
	dir                   string
	postgres, redisServer *private.Server
	host                  string // of both
	postgresPort          int
	redisPort             int
	databaseURL, redisURL string
	db                    *pgxpool.Pool
	redis                 rueidis.Client
	relays                []*relay
	outputs               int
	hold                  time.Duration // how long a transaction is open
}

const (
	database     = "peers"
	startTimeout = time.Minute
	stopTimeout  = 15 * time.Second
)

// within makes a world, does something in it, and removes it.
func within(ctx context.Context, p peer, hold time.Duration, do func(w *world) error) (err error) {
	w := &world{peer: p, host: "127.0.0.1", hold: hold}
	if w.dir, err = os.MkdirTemp("", "unilog-peers-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.remove()) }()
	if err := w.start(ctx); err != nil {
		return fmt.Errorf("start servers: %w", err)
	}
	if err := p.prepare(ctx, w); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return w.blame(do(w))
}

func (w *world) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := os.Chmod(w.dir, 0o711); err != nil { // root's Postgres has to pass
		return err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	w.postgresPort, w.redisPort = freeport.Next(), freeport.Next()
	// Whether autovacuum comes is chance. A checkpoint adds images of pages to the WAL.
	args := append([]string{"-c", "listen_addresses=" + w.host, "-c", "autovacuum=off", "-c", "max_wal_size=8GB", "-c", "checkpoint_timeout=1h"}, w.postgresArgs()...)
	if w.postgres, err = private.StartPostgres(ctx, private.Options{
		Dir: filepath.Join(w.dir, "postgres"), Durable: true, Database: database, Port: w.postgresPort,
		InitCache: filepath.Join(cache, "unilog"), ExtraArgs: args,
	}); err != nil {
		return err
	}
	if w.redisServer, err = private.StartRedis(ctx, private.Options{
		Dir: filepath.Join(w.dir, "redis"), Durable: true,
		ExtraArgs: []string{"--bind", w.host, "--port", strconv.Itoa(w.redisPort), "--auto-aof-rewrite-percentage", "0"},
	}); err != nil {
		return err
	}
	w.databaseURL = fmt.Sprintf("postgres://postgres@%s:%d/%s?sslmode=disable", w.host, w.postgresPort, database)
	w.redisURL = fmt.Sprintf("redis://%s:%d", w.host, w.redisPort)
	if w.db, err = pgxpool.New(ctx, w.databaseURL); err != nil {
		return err
	}
	w.redis, err = w.connectRedis()
	return err
}

func (w *world) connectRedis() (rueidis.Client, error) {
	option, err := rueidis.ParseURL(w.redisURL)
	if err != nil {
		return nil, err
	}
	option.DisableCache = true
	return rueidis.NewClient(option)
}

// remove ends everything and removes all that was kept.
func (w *world) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	for _, r := range w.relays {
		_ = r.kill()
	}
	if w.db != nil {
		w.db.Close()
	}
	if w.redis != nil {
		w.redis.Close()
	}
	var errs []error
	for _, server := range []*private.Server{w.postgres, w.redisServer} {
		if server != nil {
			errs = append(errs, server.Kill())
			<-server.Done()
			errs = append(errs, private.Remove(ctx, server.Options().Dir))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// stageAll commits ids, so many in each transaction.
func (w *world) stageAll(ctx context.Context, ids []int, each int) error {
	for len(ids) > 0 {
		n := min(each, len(ids))
		if err := w.commit(ctx, ids[:n]); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		ids = ids[n:]
	}
	return nil
}

func (w *world) commit(ctx context.Context, ids []int) error {
	return pgx.BeginFunc(ctx, w.db, func(tx pgx.Tx) error { return w.stage(ctx, tx, ids) })
}

// between returns the ids of a range, both ends included.
func between(first, last int) []int {
	ids := make([]int, 0, last-first+1)
	for id := first; id <= last; id++ {
		ids = append(ids, id)
	}
	return ids
}
