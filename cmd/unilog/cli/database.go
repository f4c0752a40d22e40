package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/migration"
)

// closeTimeout bounds the farewell to Postgres, whose answer nobody needs.
const closeTimeout = time.Second

// DatabaseFlags are for commands that ask Postgres.
type DatabaseFlags struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Postgres, such as postgres://user:password@host:5432/database; for TLS with sslmode=verify-full and sslrootcert, sslcert, sslkey."`
	// Schema is empty unless somebody has asked for one.
	Schema unilog.Schema `env:"UNILOG_SCHEMA" placeholder:"NAME" help:"The schema of Postgres that the log's tables are in: unilog, if not set. Each log in a database has one of its own."`
}

// Open connects to the database, which must answer, whatever its tables are. Close
// it with [ClosePool].
func (f *DatabaseFlags) Open(ctx context.Context, p *Program) (*pgxpool.Pool, error) {
	if f.DatabaseURL == "" {
		return nil, errors.New("DATABASE_URL is not set: set it" + p.orSupervise("Postgres"))
	}
	config, err := pgxpool.ParseConfig(f.DatabaseURL)
	if err != nil {
		return nil, urlError(err)
	}
	if misread(f.DatabaseURL, config) {
		return nil, errURL
	}
	config.ConnConfig.ConnectTimeout = cmp.Or(config.ConnConfig.ConnectTimeout, p.connectTimeout())
	postgres.KeepToPrimary(config)
	postgres.NoteUnconfirmed(config.ConnConfig)
	postgres.Speak(&config.ConnConfig.Config)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, config.ConnConfig.ConnectTimeout)
	defer cancel()
	var tooOld error
	err = pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		tooOld = postgres.CheckVersion(conn.Conn().PgConn().ParameterStatus("server_version"))
		return conn.Ping(ctx)
	})
	if err != nil {
		err = fmt.Errorf("no answer from Postgres; check DATABASE_URL: %w", err)
	}
	if err = cmp.Or(err, tooOld); err != nil {
		ClosePool(pool)
		return nil, err
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

// orSupervise says what else to do than to set a server's URL.
func (p *Program) orSupervise(server string) string {
	if p.Supervisor == "" {
		return ""
	}
	return fmt.Sprintf(", or run `%s`, which starts a private %s", p.Supervisor, server)
}

// side is which of the library's tables a command cannot do without.
type side []migration.Set

var (
	writers   = side{migration.Log}
	consumers = side{migration.Consumer}
	both      = side{migration.Log, migration.Consumer}
	either    = side{}
)

// Connect opens the database and refuses one whose tables are not this program's:
// all of the library's and its own.
func (f *DatabaseFlags) Connect(ctx context.Context, p *Program) (*pgxpool.Pool, error) {
	return f.connect(ctx, p, both)
}

// connect is Connect for a command that needs one side of the library's tables. The
// other may be missing, in a program that has none of its own, but not outdated.
func (f *DatabaseFlags) connect(ctx context.Context, p *Program, needs side) (*pgxpool.Pool, error) {
	pool, err := f.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, pool.Config().ConnConfig.ConnectTimeout)
	defer cancel()
	err = Unanswered(p.check(bounded, pool, f.in(), needs), "check DATABASE_URL, and see what holds it up")
	var outdated *migration.OutdatedError
	switch {
	case errors.As(err, &outdated) && outdated.Has == 0 && p.hasOtherSide(bounded, pool, f.in(), outdated.Set):
		err = fmt.Errorf("schema %s of this database has one side of the tables alone (not %s): set DATABASE_URL to the database of the other, or run `%s migrate` to have both in this one", f.Schema.Name(), outdated.Set, p.Name)
	case errors.As(err, &outdated) && outdated.Has == 0:
		err = fmt.Errorf("the tables are not there (%s, in schema %s)%s: run `%s migrate` on this database, or check DATABASE_URL and --schema",
			outdated.Set, f.Schema.Name(), f.butIn(bounded, pool), p.Name)
	case errors.As(err, &outdated) && outdated.Has < outdated.Want:
		err = fmt.Errorf("%w, by `%s migrate`", err, p.Name)
	}
	if err != nil {
		ClosePool(pool)
		return nil, err
	}
	return pool, nil
}

// others are the schemas that other logs of the database are in, and there says whether
// this one's has tables.
func (f *DatabaseFlags) others(ctx context.Context, pool *pgxpool.Pool) (others string, there bool, err error) {
	all, err := migration.Schemas(ctx, pool)
	var names []string
	for _, s := range all {
		if s.Name() == f.Schema.Name() {
			there = true
		} else {
			names = append(names, s.Name())
		}
	}
	return strings.Join(names, ", "), there, err
}

// butIn says which other schemas have tables, for who found none.
func (f *DatabaseFlags) butIn(ctx context.Context, pool *pgxpool.Pool) string {
	others, _, err := f.others(ctx, pool)
	if err != nil || others == "" {
		return ""
	}
	return ", but in " + others
}

// in is where the tables are.
func (f *DatabaseFlags) in() migration.In { return migration.In(f.Schema) }

func (p *Program) check(ctx context.Context, pool *pgxpool.Pool, in migration.In, needs side) error {
	if len(p.Sets) > 0 {
		return in.Check(ctx, pool, p.tables(both)...)
	}
	for _, set := range both {
		err := in.Check(ctx, pool, set)
		var outdated *migration.OutdatedError
		if errors.As(err, &outdated) && outdated.Has == 0 && len(needs) < 2 && !slices.ContainsFunc(needs, func(s migration.Set) bool { return s.Name == set.Name }) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// hasOtherSide says whether there are some of the library's tables, though not set's.
func (p *Program) hasOtherSide(ctx context.Context, pool *pgxpool.Pool, in migration.In, set string) bool {
	for _, other := range both {
		var outdated *migration.OutdatedError
		if err := in.Check(ctx, pool, other); other.Name != set && (err == nil || errors.As(err, &outdated) && outdated.Has > 0) {
			return true
		}
	}
	return false
}

// tables are a side of the library's, and the program's own.
func (p *Program) tables(of side) []migration.Set { return slices.Concat(of, p.Sets) }

// ClosePool says goodbye to Postgres, and waits a second for it at the most. A pool whose connection fell silent would
// wait for it longer than a process has time to end.
func ClosePool(db *pgxpool.Pool) {
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

// Unanswered says what to do about a call whose time is over.
func Unanswered(err error, advice string) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("no answer from Postgres in time; %s: %w", advice, err)
}

// MoreTime is the advice of commands that have --timeout, for [Unanswered].
const MoreTime = "see that it is up and what holds it up, or give it more with --timeout"

// TaskFlags are for commands that do one thing in the database and end.
type TaskFlags struct {
	DatabaseFlags `embed:""`
	Timeout       time.Duration `default:"1m" help:"Give up when Postgres takes longer."`
}

// Do connects as [DatabaseFlags.Connect] does, and does the task within the timeout
// and what the task waits besides.
func (f *TaskFlags) Do(ctx context.Context, p *Program, wait time.Duration, task func(ctx context.Context, db *pgxpool.Pool) error) error {
	return f.do(ctx, p, both, wait, task)
}

func (f *TaskFlags) do(ctx context.Context, p *Program, needs side, wait time.Duration, task func(ctx context.Context, db *pgxpool.Pool) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.Timeout+wait)
	defer cancel()
	db, err := f.connect(ctx, p, needs)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	return Unanswered(confirmed(ctx, db, task(ctx, db)), MoreTime)
}

// confirmed returns err, or that the synchronous standby may lack what was done.
func confirmed(ctx context.Context, db *pgxpool.Pool, err error) error {
	if err != nil {
		return err
	}
	if err := postgres.CheckAllConfirmed(ctx, db); err != nil {
		return fmt.Errorf("it is done, and would be undone if a standby were promoted now; see pg_stat_replication: %w", err)
	}
	return nil
}
