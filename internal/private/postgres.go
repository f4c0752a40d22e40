package private

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// StartPostgres starts a Postgres on o.Dir, after making a database cluster
// there if there is none, and waits until it answers and o.Database exists.
// ctx bounds the start, not the server's life.
//
// Errors that a person can mend are a *MissingError, *VersionError,
// *RunningError or *StartError, each of one line.
func StartPostgres(ctx context.Context, o Options) (*Server, error) {
	o, lock, err := prepare(ctx, postgres, o)
	if err != nil {
		return nil, err
	}
	s, err := startPostgres(ctx, o, lock)
	if err != nil {
		lock.Unlock()
		return nil, err
	}
	if err := createDatabase(ctx, s.socket, o); err != nil {
		_ = s.Stop(ctx)
		return nil, err
	}
	return s, nil
}

// CheckPostgres finds, without starting or changing anything, a *MissingError
// or *VersionError that StartPostgres would fail with. Without o.Dir it is about
// a new directory.
func CheckPostgres(ctx context.Context, o Options) error {
	_, _, err := choosePostgres(ctx, o)
	return err
}

// choosePostgres returns the directory of the binaries that fit o's data, and
// the version that made the data, "" if there are none.
func choosePostgres(ctx context.Context, o Options) (bin, made string, err error) {
	if o.Dir != "" {
		if made, err = madeBy(filepath.Join(o.Dir, "data")); err != nil {
			return "", "", err
		}
	}
	bin, err = o.find.postgres(ctx, made, o.Dir)
	return bin, made, err
}

// memoryPatience bounds the wait for shared memory that a dead server's processes hold.
const memoryPatience = 15 * time.Second

func startPostgres(ctx context.Context, o Options, lock *Lock) (*Server, error) {
	bin, made, err := choosePostgres(ctx, o)
	if err != nil {
		return nil, err
	}
	acct, err := postgresAccount(filepath.Join(o.Dir, "data"))
	if err != nil {
		return nil, err
	}
	data, err := dataDir(o.Dir, acct)
	if err != nil {
		return nil, err
	}
	socket, err := socketDir(o.Dir, fmt.Sprintf(".s.PGSQL.%d", o.Port), acct)
	if err != nil {
		return nil, err
	}
	if made == "" {
		if err := initdb(ctx, bin, data, acct, o); err != nil {
			return nil, err
		}
	}
	unclean := dropStalePid(data)
	answers := func(ctx context.Context) error { return ask(ctx, socket, o.Port) }
	deadline := time.Now().Add(memoryPatience)
	for {
		cmd := acct.as(exec.Command(filepath.Join(bin, "postgres"), postgresArgs(o, data, socket)...))
		cmd.Env = serverEnv()
		s, err := launch(ctx, postgres, o, lock, cmd, answers)
		if err == nil {
			s.socket, s.url = socket, postgresURL(o.Database, socket, o.Port)
			s.attach = "psql '" + s.url + "'"
			return s, nil
		}
		// A dead postmaster's orphans may hold its shared memory a moment longer.
		if !unclean || time.Now().After(deadline) || pause(ctx, 100*time.Millisecond) != nil {
			return nil, err
		}
	}
}

func postgresArgs(o Options, data, socket string) []string {
	args := []string{"-D", data, "-k", socket}
	set := func(settings ...string) {
		for _, s := range settings {
			args = append(args, "-c", s)
		}
	}
	set("listen_addresses=", fmt.Sprintf("port=%d", o.Port), "unix_socket_permissions=0700", "logging_collector=off", "log_destination=stderr",
		// Among the data: what one that is killed leaves in memory would stay there.
		"dynamic_shared_memory_type=mmap")
	if o.Durable {
		set("max_connections=100", "shared_buffers=128MB", "fsync=on", "full_page_writes=on", "synchronous_commit=on")
	} else {
		// Commits still reach the operating system, so they survive SIGKILL.
		set("max_connections=200", "shared_buffers=32MB", "fsync=off", "full_page_writes=off", "synchronous_commit=on",
			"wal_level=minimal", "max_wal_senders=0")
	}
	return append(args, o.ExtraArgs...)
}

// serverEnv is the environment without what would configure Postgres behind
// our back. The C locale keeps its messages in English and macOS content.
func serverEnv() []string {
	env := []string{"LC_ALL=C"}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PG") && !strings.HasPrefix(kv, "LC_") && !strings.HasPrefix(kv, "LANG") {
			env = append(env, kv)
		}
	}
	return env
}

func ask(ctx context.Context, socket string, port int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // and then again
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL("postgres", socket, port))
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func createDatabase(ctx context.Context, socket string, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgresURL("postgres", socket, o.Port))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, o.Database).Scan(&exists)
	if err == nil && !exists {
		_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{o.Database}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("create database %s: %w", o.Database, err)
	}
	return nil
}
