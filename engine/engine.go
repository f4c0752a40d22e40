// Package engine opens the log that a URL names, whichever engine it is in.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/switchlog"
)

// Options says where a log is. URL is required.
type Options struct {
	// URL is where the log is unless it was moved, see [At].
	URL string
	// Stream names the Redis stream that is the log, and its partitions begin with.
	// Default: unilog.
	Stream string
	// DB is a pool of the database that records are staged in, and stays the
	// caller's to close, after the log. Without it, as for a consumer of another
	// service, the log stays at the URL.
	DB *pgxpool.Pool
	// Schema is the one that the log's tables are in: default [unilog.DefaultSchema].
	Schema unilog.Schema
}

// Error says that the log could not be opened where it is.
type Error struct {
	// Moved says that the log was moved from [Options.URL] to another place.
	Moved bool
	Err   error
}

func (e *Error) Error() string {
	where := "at its URL"
	if e.Moved {
		where = "where it has moved to (table places)"
	}
	return "no answer from the log " + where + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Open opens the log where it is: at the URL, or where switchlog.Move has moved it
// since. Then it follows each further move by itself, within seconds, so that
// streamers and consumers that use it need not be started again. That the log does
// not answer is an [Error].
func Open(ctx context.Context, o Options) (switchlog.Engine, error) {
	open := func(ctx context.Context, moved string) (switchlog.Engine, error) {
		at := o
		at.URL = cmp.Or(moved, o.URL)
		log, err := At(ctx, at)
		if err != nil {
			return nil, &Error{moved != "", err}
		}
		return log, nil
	}
	if err := o.Schema.Check(); err != nil {
		return nil, fmt.Errorf("engine: Options.Schema: %w", err)
	}
	switch {
	case o.URL == "":
		return nil, errors.New("engine: Options.URL is required")
	case o.DB == nil:
		return open(ctx, "")
	}
	return switchlog.Open(ctx, o.DB, o.Schema, open)
}

// At opens the log at the URL, and does not follow it when it moves. The URL is
// kafka:// or kafka+tls://; postgres:, which is the archive of DB itself; or what
// redislog takes, in the stream. ${NAME} in the URL is what the environment has of that
// name, so that a URL can be shown and stored without its password.
func At(ctx context.Context, o Options) (switchlog.Engine, error) {
	url, err := expand(o.URL)
	if err != nil {
		return nil, err
	}
	switch scheme, rest, _ := strings.Cut(url, ":"); {
	case strings.HasPrefix(scheme, "kafka"):
		return orNil(kafkalog.Open(ctx, url))
	case scheme == "postgres" && rest == "" && o.DB == nil:
		return nil, errors.New("the log is in the database that records are staged in: give a pool of it")
	case scheme == "postgres" && rest == "":
		return orNil(pglog.Open(ctx, o.DB, o.Schema))
	case scheme == "postgres":
		return nil, errors.New("the log can only be in the database that DATABASE_URL names: write postgres: and no more")
	}
	return orNil(redislog.Open(ctx, url, cmp.Or(o.Stream, "unilog")))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[L switchlog.Engine](log L, err error) (switchlog.Engine, error) {
	if err != nil {
		return nil, err
	}
	return log, nil
}

// expand puts the environment's values into a URL.
func expand(url string) (string, error) {
	var missing []string
	out := ""
	for {
		before, rest, found := strings.Cut(url, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			break
		}
		value, ok := os.LookupEnv(name)
		if !ok {
			missing = append(missing, name)
		}
		out += before + value
		url = after
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("the log's URL needs %s in the environment of each process", strings.Join(missing, " and "))
	}
	return out + url, nil
}

// HasPassword says whether a URL has a password in it, not one of the environment's.
func HasPassword(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	if at < 0 {
		return false
	}
	_, password, has := strings.Cut(authority[:at], ":")
	return has && password != "" && !(strings.HasPrefix(password, "${") && strings.HasSuffix(password, "}"))
}
