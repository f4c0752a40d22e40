package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/switchlog"
)

// LogFlags say where the log is.
type LogFlags struct {
	LogURL     string `name:"log-url" env:"LOG_URL" placeholder:"URL" help:"Where the log is, if not in the Redis of REDIS_URL: redis+cluster://, redis+sentinel://, kafka://host:9092/topic, or postgres: for the database itself."`
	RedisURL   string `name:"redis-url" env:"REDIS_URL" placeholder:"URL" help:"Redis, such as redis://host:6379/0 or unix:///path/redis.sock; for TLS, rediss://host:6380/0 with cacert, cert, key as in ?cacert=FILE."`
	StreamName string `name:"stream-name" env:"STREAM_NAME" default:"${stream}" help:"The Redis stream that is the log."`
}

// Open opens the log of a schema where it is: at the URL, unless it was moved, and then follows
// it.
func (f *LogFlags) Open(ctx context.Context, p *Program, db *pgxpool.Pool, schema unilog.Schema) (switchlog.Engine, error) {
	if f.LogURL == "" && f.RedisURL == "" {
		return nil, errors.New("REDIS_URL is not set: set it or LOG_URL" + p.orSupervise("Redis"))
	}
	ctx, cancel := context.WithTimeout(ctx, p.connectTimeout())
	defer cancel()
	log, err := engine.Open(ctx, engine.Options{URL: cmp.Or(f.LogURL, f.RedisURL), Stream: f.StreamName, DB: db, Schema: schema})
	var failed *engine.Error
	switch {
	case err == nil:
		return log, nil
	case errors.As(err, &failed) && failed.Moved:
		return nil, fmt.Errorf("no answer from the log where it has moved to; check the table places: %w", failed.Err)
	case errors.As(err, &failed):
		return nil, f.unanswered(failed.Err)
	}
	return nil, err
}

// reader opens the log for a command that can do without it: then it is nil, and the error
// says why.
func (f *LogFlags) reader(ctx context.Context, p *Program, db *pgxpool.Pool, schema unilog.Schema) (log unilog.Log, closeLog func(), err error) {
	opened, err := f.Open(ctx, p, db, schema)
	if err != nil {
		return nil, func() {}, err
	}
	return opened, opened.Close, nil
}

// OpenAt opens the log at a URL, or at the one that was set if that is empty, and
// stays there.
func (f *LogFlags) OpenAt(ctx context.Context, p *Program, db *pgxpool.Pool, schema unilog.Schema, url string) (switchlog.Engine, error) {
	if url == "" && f.LogURL == "" && f.RedisURL == "" {
		return nil, errors.New("REDIS_URL is not set: set it or LOG_URL" + p.orSupervise("Redis"))
	}
	ctx, cancel := context.WithTimeout(ctx, p.connectTimeout())
	defer cancel()
	log, err := engine.At(ctx, engine.Options{URL: cmp.Or(url, f.LogURL, f.RedisURL), Stream: f.StreamName, DB: db, Schema: schema})
	switch {
	case err == nil:
		return log, nil
	case url != "":
		return nil, fmt.Errorf("no answer from the log; check its URL: %w", err)
	}
	return nil, f.unanswered(err)
}

// unanswered says which variable to check.
func (f *LogFlags) unanswered(err error) error {
	variable, what := "REDIS_URL", "Redis"
	if f.LogURL != "" {
		variable, what = "LOG_URL", "the log"
	}
	if err == nil {
		return fmt.Errorf("no answer from %s; check %s", what, variable)
	}
	return fmt.Errorf("no answer from %s; check %s: %w", what, variable, err)
}

// ServerOf returns the server of a log that is in one of its own.
func ServerOf(log switchlog.Engine) doctor.Log {
	switch log := held(log).(type) {
	case *redislog.Log:
		return doctor.Log{Redis: log.Client(), Head: func(ctx context.Context) error {
			_, err := log.Head(ctx, 0)
			return err
		}}
	case *kafkalog.Log:
		return doctor.Log{Kafka: log}
	}
	return doctor.Log{}
}

// engineName is what people call what holds a log now.
func engineName(log switchlog.Engine) string {
	switch log := held(log).(type) {
	case *lateLog:
		if log.Engine != nil {
			return engineName(log.Engine)
		}
		return log.flags.engineName()
	case *redislog.Log:
		return "Redis"
	case *kafkalog.Log:
		return "Kafka"
	case *pglog.Log:
		return "The log in Postgres"
	}
	return "The log"
}

// engineName is what it is at the URL, whether or not that answers.
func (f *LogFlags) engineName() string {
	switch scheme, _, _ := strings.Cut(cmp.Or(f.LogURL, f.RedisURL), ":"); scheme {
	case "kafka":
		return "Kafka"
	case "postgres", "postgresql":
		return "The log in Postgres"
	}
	return "Redis"
}

// held is the log where it is now.
func held(log switchlog.Engine) switchlog.Engine {
	if moving, ok := log.(*switchlog.Log); ok {
		return moving.Engine()
	}
	return log
}
