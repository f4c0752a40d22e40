package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/postgres"
)

// stream is the log's name.
const stream = "rocket-rides-log"

// world is a new database, an empty Redis, and the processes on them.
type world struct {
	*round
	name                       string // of the database, and of what else is its own
	dir, databaseURL, redisURL string
	logURL                     string // of a log that is not in redisURL
	db                         *pgxpool.Pool
	redis                      rueidis.Client
	programs                   []*program
}

// within makes a world, measures in it, and removes it.
func (r *round) within(ctx context.Context, measure func(w *world) error) (err error) {
	s := r.servers
	s.worlds++
	database := fmt.Sprintf("bench%d", s.worlds)
	if err := postgres.WhenUnused(ctx, s.admin, `CREATE DATABASE `+database+` TEMPLATE rocketrides`); err != nil {
		return fmt.Errorf("make a database: %w", err)
	}
	w := &world{round: r, name: database, dir: s.dir, databaseURL: s.databaseURL(database), redisURL: s.redis.URL()}
	defer func() {
		err = errors.Join(err, w.close(database))
	}()
	if err := w.open(ctx); err != nil {
		return err
	}
	return measure(w)
}

func (w *world) open(ctx context.Context) (err error) {
	if w.db, err = pgxpool.New(ctx, w.databaseURL); err != nil {
		return err
	}
	if w.redis, err = w.connectRedis(); err != nil {
		return err
	}
	return w.redis.Do(ctx, w.redis.B().Flushall().Build()).Error()
}

func (w *world) connectRedis() (rueidis.Client, error) { return connectRedis(w.redisURL) }

func connectRedis(url string) (rueidis.Client, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	option.DisableCache = true
	return rueidis.NewClient(option)
}

func (w *world) close(database string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := w.stop()
	if w.db != nil {
		w.db.Close()
	}
	if w.redis != nil {
		w.redis.Close()
	}
	dropErr := postgres.WhenUnused(ctx, w.servers.admin, `DROP DATABASE `+database+` WITH (FORCE)`)
	return errors.Join(err, dropErr)
}

// stage stages records. What they cost the disk is paid before it returns.
func (w *world) stage(ctx context.Context, records int) error {
	w.progress.show(0, "staging "+number(float64(records))+" records")
	if _, err := w.db.Exec(ctx, sqlStage, records); err != nil {
		return fmt.Errorf("stage %d records: %w", records, err)
	}
	_, err := w.db.Exec(ctx, `CHECKPOINT`)
	return err
}

// head returns the last offset in the stream, 0 if there is none.
func (w *world) head(ctx context.Context) (int64, error) {
	last, err := w.redis.Do(ctx, w.redis.B().Xrevrange().Key(stream).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil || len(last) == 0 {
		return 0, err
	}
	offset, _, _ := strings.Cut(last[0].ID, "-")
	return strconv.ParseInt(offset, 10, 64)
}

// published returns how many records are published, as far as the database knows.
func (w *world) published(ctx context.Context) (records int64, err error) {
	err = w.db.QueryRow(ctx, sqlPublished).Scan(&records)
	return records, err
}

// applied returns a consumer's checkpoint, 0 if there is none.
func (w *world) applied(ctx context.Context, name string) (offset int64, err error) {
	err = w.db.QueryRow(ctx, sqlApplied, name).Scan(&offset)
	return offset, err
}

const (
	// lookPause is the time between two looks at how far a process has come.
	lookPause = 5 * time.Millisecond
	// patience bounds the wait for any progress.
	patience = 2 * time.Minute
	// steps is how many points of its way are kept at the most, and leastStep how
	// many records are between two of them at least: several batches.
	steps     = 50
	leastStep = 10_000
)

// way is how a process has come from one offset to another.
type way []struct {
	at     time.Time
	offset int64
}

// rate is that of the whole way, a second.
func (y way) rate() float64 {
	first, last := y[0], y[len(y)-1]
	return float64(last.offset-first.offset) / last.at.Sub(first.at).Seconds()
}

// follow looks, from before the first record until the last one is done. The
// way begins at the last look that saw nothing done.
func (w *world) follow(ctx context.Context, last int64, look func(ctx context.Context) (int64, error)) (way, error) {
	y := make(way, 1, steps+2)
	y[0].at = time.Now()
	moved := time.Now()
	var before int64
	err := w.await(ctx, func() (bool, error) {
		now := time.Now()
		offset, err := look(ctx)
		if err != nil {
			return false, err
		}
		if offset == before && now.Sub(moved) > patience {
			return false, fmt.Errorf("nothing has moved for %v at %d of %d records", patience, offset, last)
		}
		if offset > before {
			before, moved = offset, now
			w.progress.show(float64(offset)/float64(last), number(float64(offset))+" of "+number(float64(last))+" records")
		}
		next := y[len(y)-1]
		switch {
		case offset == 0:
			y[0].at = now
		case offset >= last || offset-next.offset >= max(last/steps, leastStep):
			next.at, next.offset = time.Now(), offset
			y = append(y, next)
		}
		return offset >= last, nil
	})
	return y, err
}

// await looks until something holds, or a process has ended.
func (w *world) await(ctx context.Context, holds func() (bool, error)) error {
	tick := time.NewTicker(lookPause)
	defer tick.Stop()
	for {
		ok, err := holds()
		if err != nil {
			return w.blame(err)
		}
		if ok {
			return nil
		}
		for _, p := range w.programs {
			select {
			case <-p.Done():
				return w.blame(fmt.Errorf("%s has ended: %v", p.name, p.Err()))
			default:
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// blame adds what the processes said last.
func (w *world) blame(err error) error {
	for _, p := range w.programs {
		err = fmt.Errorf("%w (%s said last: %s)", err, p.name, p.lastWords())
	}
	return err
}
