// Package switchlog is a log that can be moved from one place, or one engine, to
// another while everything runs: from Redis to Kafka, and back.
//
// Where it is stands in the table unilog.places of the database that records are
// staged in, so that one command moves it for all streamers and consumers that can
// read that table. The archive, the offsets and the checkpoints stay what they are:
// a log holds each offset once wherever it is, and a consumer goes on in the new
// one after the last offset that it has applied.
//
// A move begins with a copy ([Copy]) of what the log has to hold, which goes on
// until it has caught up. Then [Move] changes the place, in one transaction, and
// ends each leader's term with it: the next ones claim the new log. What a leader of
// before still appends to the old one is in the archive, too, and so will be in the
// new one. [Undo] is the same move in the other direction.
//
// A consumer in another service has no access to the table. Start it again with the
// new URL: its checkpoint is good for both.
package switchlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

var _ unilog.Log = (*Log)(nil)

// Engine is a log in one place.
type Engine interface {
	unilog.Log
	Close()
}

// Opener opens the log at a URL. No URL is where the process was told to look when
// it was started.
type Opener func(ctx context.Context, url string) (Engine, error)

// Log is a log that may move. It is safe for concurrent use.
type Log struct {
	db     *pgxpool.Pool
	schema unilog.Schema
	open   Opener

	opening sync.Mutex // held while a place is looked up and opened
	mu      sync.Mutex
	at      *place
	looked  time.Time
}

// place is where the log is in one generation.
type place struct {
	Engine
	generation int
	calls      sync.WaitGroup
}

const (
	// lookPause is the time between a reader's looks at where the log is.
	lookPause = time.Second
	// callTimeout bounds a look.
	callTimeout = 5 * time.Second

	// Index: places_pkey.
	sqlPlace = `SELECT generation, coalesce(url, '') FROM unilog.places ORDER BY generation DESC LIMIT 1`
)

// Open opens the log where it is. The pool, of the database that records are staged
// in, stays the caller's to close, after the log. It ends with ctx or, if that has no
// deadline, after 5 seconds.
func Open(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, open Opener) (*Log, error) {
	if err := schema.Check(); err != nil {
		return nil, err
	}
	l := &Log{db: db, schema: schema, open: open}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	if err := l.follow(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// Close closes the log where it is.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at.Close()
}

// Engine returns the log where it is now. It may be closed when the log moves.
func (l *Log) Engine() Engine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at.Engine
}

// look looks where the log is, and goes there. Without an answer in time it stays.
func (l *Log) look(ctx context.Context) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return l.follow(ctx)
}

// follow is look until ctx ends, for one at a time.
func (l *Log) follow(ctx context.Context) error {
	var generation int
	var url string
	err := l.db.QueryRow(ctx, l.schema.SQL(sqlPlace)).Scan(&generation, &url)
	if err != nil {
		err = postgres.Missing(ctx, l.db, l.schema.Name(), err, "places")
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New(l.schema.SQL("switchlog: the table unilog.places has no row: was it emptied? migrate says what to do"))
	}
	if err != nil {
		return fmt.Errorf("switchlog: look where the log is: %w", err)
	}
	l.mu.Lock()
	before := l.at
	l.looked = time.Now()
	l.mu.Unlock()
	if before != nil && before.generation == generation {
		return nil
	}
	engine, err := l.open(ctx, url)
	if err != nil {
		l.mu.Lock()
		l.looked = time.Time{}
		l.mu.Unlock()
		if generation == 0 {
			return err // it has never moved
		}
		return fmt.Errorf("the log has moved there by generation %d: %w", generation, err)
	}
	l.mu.Lock()
	l.at = &place{Engine: engine, generation: generation}
	l.mu.Unlock()
	if before != nil {
		go func() {
			before.calls.Wait()
			before.Close()
		}()
	}
	return nil
}

// enter returns where the log is, for a call that leave ends.
func (l *Log) enter() *place {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at.calls.Add(1)
	return l.at
}

func (p *place) leave() { p.calls.Done() }

// Head implements [unilog.Log].
func (l *Log) Head(ctx context.Context, partition int) (unilog.Head, error) {
	if err := l.look(ctx); err != nil {
		return unilog.Head{}, err
	}
	at := l.enter()
	defer at.leave()
	return at.Head(ctx, partition)
}

// Claim implements [unilog.Log]. A leader claims when its term begins and each
// second, and so follows the log.
func (l *Log) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	if err := l.look(ctx); err != nil {
		return 0, err
	}
	at := l.enter()
	defer at.leave()
	return at.Claim(ctx, term)
}

// Append implements [unilog.Log].
func (l *Log) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	at := l.enter()
	defer at.leave()
	return at.Append(ctx, term, entries)
}

// Reset implements [unilog.Log].
func (l *Log) Reset(ctx context.Context, term unilog.Term, head int64) error {
	at := l.enter()
	defer at.leave()
	return at.Reset(ctx, term, head)
}

// Trim implements [unilog.Log].
func (l *Log) Trim(ctx context.Context, partition int, upTo int64) error {
	at := l.enter()
	defer at.leave()
	return at.Trim(ctx, partition, upTo)
}

// Read implements [unilog.Log]. A reader that has come to the end, or that gets an
// error, looks where the log is.
func (l *Log) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	at := l.enter()
	defer at.leave()
	after.Position = at.own(after.Position)
	entries, err := at.Read(ctx, partition, after, limit, wait)
	for i := range entries {
		entries[i].Position = at.tag(entries[i].Position)
	}
	if (err != nil || len(entries) == 0) && l.mayLook() && ctx.Err() == nil {
		return nil, errors.Join(err, l.look(ctx))
	}
	return entries, err
}

func (l *Log) mayLook() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.looked) >= lookPause
}

// tag marks a position with its generation. One of the first generation has none,
// as if the log had never moved.
func (p *place) tag(position string) string {
	if p.generation == 0 {
		return position
	}
	return strconv.Itoa(p.generation) + "/" + position
}

// own returns a position in this place, none if it is one of another place: then
// the offset says where it is.
func (p *place) own(position string) string {
	generation, rest, tagged := strings.Cut(position, "/")
	switch {
	case !tagged && p.generation == 0:
		return position
	case tagged && generation == strconv.Itoa(p.generation):
		return rest
	}
	return ""
}
