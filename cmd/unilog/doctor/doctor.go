// Package doctor looks at Postgres, Redis and Kafka for what would break a promise, or
// slow things down, and says what to change. It changes nothing itself.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/migration"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK     Level = "ok"
	Advice Level = "advice" // it works, and could work better, or could not be seen
	Unsafe Level = "unsafe" // something would be lost, or not work
)

// Process is one that a finding concerns.
type Process string

// The processes that are examined for at their start.
const (
	API      Process = "api"
	Streamer Process = "streamer"
	Consumer Process = "consumer"
)

// Finding is the answer of one check.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Found string `json:"found"`
	Why   string `json:"why"`
	// Change says what to do about it. Empty if the level is ok.
	Change string `json:"change,omitempty"`
	// Concerns are the processes that hear of it at their start.
	Concerns []Process `json:"concerns"`
}

// String says it in one line.
func (f Finding) String() string {
	if f.Level == OK {
		return f.Found + ": " + f.Why
	}
	return f.Found + ": " + f.Why + ": " + f.Change
}

// about makes a finding, whose change is left out if it is ok.
func about(check string, level Level, found, why, change string, concerns ...Process) Finding {
	if level == OK {
		change = ""
	}
	return Finding{check, level, found, why, change, append([]Process{}, concerns...)}
}

// Log is where the log is, if it is in a server of its own.
type Log struct {
	Redis rueidis.Client
	Kafka *kafkalog.Log
	// Head reads where the log in Redis is, as all do who use it. It may be nil.
	Head func(context.Context) error
}

// Examine looks at Postgres and the log in a schema of it, and at the server that the
// log is in. Findings name the commands of program, whose own tables are given. A server
// that refuses an answer is a finding; one that gives none is an error.
func Examine(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log Log, program string, tables ...string) ([]Finding, error) {
	findings, err := Settings(ctx, db, schema, log, program, tables...)
	if err != nil {
		return nil, err
	}
	conn, err := db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	defer conn.Release()
	pooler, err := examinePooler(ctx, conn.Conn(), program)
	if err != nil {
		return nil, fmt.Errorf("examine Postgres: %w", err)
	}
	rows, err := examineRows(ctx, conn.Conn(), schema)
	if err != nil {
		return nil, fmt.Errorf("examine Postgres: %w", err)
	}
	clock, err := readPostgresClock(ctx, conn.Conn())
	if err != nil {
		return nil, fmt.Errorf("read the clock of Postgres: %w", err)
	}
	findings = append(slices.Concat(findings, rows, pooler), Encoding(conn.Conn()), judgeProcessClock(clock))
	if log.Redis == nil {
		return findings, nil
	}
	limits, err := examineLimits(ctx, log.Redis, clock)
	if err != nil {
		return nil, fmt.Errorf("examine Redis: %w", err)
	}
	return slices.Concat(findings, limits, examineRights(ctx, log.Head)), nil
}

// Settings is the part of [Examine] that is to be looked at again and again, as
// somebody may change it while processes run. It asks each server once.
func Settings(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log Log, program string, tables ...string) ([]Finding, error) {
	findings, err := examinePostgres(ctx, db, schema, program, tables)
	if err != nil {
		return nil, fmt.Errorf("examine Postgres: %w", err)
	}
	var of []Finding
	switch {
	case log.Redis != nil:
		if of, err = examineRedis(ctx, log.Redis); err != nil {
			err = fmt.Errorf("examine Redis: %w", err)
		}
	case log.Kafka != nil:
		if of, err = examineKafka(ctx, log.Kafka); err != nil {
			err = fmt.Errorf("examine Kafka: %w", err)
		}
	}
	return append(findings, of...), err
}

// Concerning returns those that matter to a process.
func Concerning(p Process, findings []Finding) []Finding {
	return slices.DeleteFunc(slices.Clone(findings), func(f Finding) bool { return !slices.Contains(f.Concerns, p) })
}

// Tables sees that the tables in the schema are this program's. Processes check that
// at their start in any case.
func Tables(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, program string, sets ...migration.Set) (Finding, error) {
	const check, why = "schema", "each process refuses tables of another version"
	err := migration.In(schema).Check(ctx, db, sets...)
	var outdated *migration.OutdatedError
	var incomplete *migration.IncompleteError
	var refused *pgconn.PgError
	var hidden *postgres.HiddenError
	switch {
	case errors.As(err, &hidden):
		return about(check, Unsafe, hidden.Found(), why, hidden.Change()), nil
	case errors.As(err, &incomplete):
		found, change, _ := strings.Cut(incomplete.Error(), ": ")
		return about(check, Unsafe, found, "without it nothing works, or not for long", change), nil
	case errors.As(err, &outdated):
		change := "run `" + program + " migrate`"
		if outdated.Has > outdated.Want {
			change = "run the newer program"
		}
		return about(check, Unsafe, fmt.Sprintf("%s is at version %d, this program at %d", outdated.Set, outdated.Has, outdated.Want), why, change), nil
	case errors.As(err, &refused):
		return unseen(check, "the tables' versions", err, why, "let this role read the table "+schema.SQL("unilog.migrations")), nil
	case err != nil:
		return Finding{}, fmt.Errorf("check the tables' versions: %w", err)
	}
	return about(check, OK, "the tables are up to date", why, ""), nil
}

// unseen is for what a server refuses to tell.
func unseen(check, what string, err error, why, change string, concerns ...Process) Finding {
	return about(check, Advice, fmt.Sprintf("%s cannot be seen (%v)", what, err), why, change, concerns...)
}
