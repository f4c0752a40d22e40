package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/migration"
)

// MigrateTimeout bounds all migrations together, the wait for another process that
// migrates included, where no flag says otherwise.
const MigrateTimeout = 10 * time.Minute

// Migrate creates or upgrades the tables: the library's and the program's own.
type Migrate struct {
	DatabaseFlags `embed:""`
	AllowUnsafe   bool          `env:"ALLOW_UNSAFE" help:"Also make the tables in a database whose encoding is not UTF8; see ${program} doctor."`
	SQL           bool          `name:"sql" help:"Print the statements for a database that has none of the tables, instead of running them."`
	Roles         bool          `help:"Also create or update the roles with what each process needs."`
	Partitions    int           `default:"0" help:"Also give the log so many partitions, from 1 to 1,024, while everything runs; 0 keeps those that it has."`
	Timeout       time.Duration `default:"10m" help:"Give up, and undo what is not done, when Postgres takes longer."`
}

// Help follows the flags' own help.
func (Migrate) Help() string {
	return `With --roles there are group roles, which cannot log in. Grant them to users of your own:

  ${service}_${writer}: stages records
  ${service}_streamer: numbers records and keeps the archive
  ${service}_consumer: keeps checkpoints and dead letters
  ${service}_reader: reads everything, for status, verify and "consumers list"

None of them may make or drop a table. What they may do with the application's own tables is the application's to grant.

For example: CREATE USER writer PASSWORD '…' IN ROLE ${service}_${writer}

Give all streamers one user, so that a standby may end the session of a leader that is frozen. Repairs (dead letters, "consumers seek" and the like) and migrations are for the user who runs this: a superuser, or the database's owner with CREATEROLE, or for whom the roles are there already. What sees others' sessions, pg_read_all_stats or pg_monitor, is granted if that user may; it is said if not.`
}

// Validate refuses what the library would refuse, before anything is done.
func (c *Migrate) Validate() error {
	if c.Partitions != 0 && c.SQL {
		return errors.New("--partitions is not for --sql: run migrate again without it")
	}
	return CheckPartitions(c.Partitions)
}

// CheckPartitions refuses a number for --partitions, which may be 0.
func CheckPartitions(n int) error {
	if n < 0 || n > migration.MaxPartitions {
		return fmt.Errorf("--partitions is %d: it must be from 1 to %d", n, migration.MaxPartitions)
	}
	return nil
}

// Run does all that is asked for.
func (c *Migrate) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	return c.run(ctx, log, p, both)
}

func (c *Migrate) run(ctx context.Context, log *slog.Logger, p *Program, of side) error {
	roles, err := p.rolesSQL(c.Schema, of)
	if err != nil {
		return err
	}
	if c.SQL {
		text, err := c.in().SQL(p.tables(of)...)
		if err != nil {
			return err
		}
		if c.Roles {
			text += "\n" + roles
		}
		_, err = os.Stdout.WriteString(text)
		return err
	}
	if err := c.checkEncoding(ctx, p); err != nil {
		return err
	}
	end := working(ctx, log, "migrating")
	mended, err := c.up(ctx, p, c.Timeout, of, true)
	end()
	for _, what := range mended {
		log.Warn(what)
	}
	if err != nil {
		return err
	}
	log.Info("the database's tables are up to date")
	if c.Roles {
		if err := c.makeRoles(ctx, log, p, roles); err != nil {
			return err
		}
		log.Info("the roles are up to date")
	}
	return c.Repartition(ctx, log, p, c.Timeout, c.Partitions)
}

// checkEncoding refuses a database that lacks characters which records may have.
func (c *Migrate) checkEncoding(ctx context.Context, p *Program) error {
	pool, err := c.Open(ctx, p)
	if err != nil {
		return err
	}
	defer ClosePool(pool)
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return Unanswered(pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		if err := postgres.CheckServer(conn.Conn()); err != nil {
			return err
		}
		if f := doctor.Encoding(conn.Conn()); f.Level == doctor.Unsafe && !c.AllowUnsafe {
			return errors.New("unsafe: " + f.String() + "; or run it with --allow-unsafe (ALLOW_UNSAFE=true)")
		}
		return nil
	}), MoreTime)
}

// Up brings the tables to their newest versions.
func (f *DatabaseFlags) Up(ctx context.Context, p *Program, timeout time.Duration) error {
	_, err := f.up(ctx, p, timeout, both, false)
	return err
}

// up returns what was missing and is put back, if it mends.
func (f *DatabaseFlags) up(ctx context.Context, p *Program, timeout time.Duration, of side, mends bool) (mended []string, err error) {
	pool, err := f.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	defer ClosePool(pool)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := f.refuseSecond(ctx, pool); err != nil {
		return nil, Unanswered(err, MoreTime)
	}
	err = f.in().Up(ctx, pool, p.tables(of)...)
	var incomplete *migration.IncompleteError
	if mends && (err == nil || errors.As(err, &incomplete)) {
		mended, err = f.in().Mend(ctx, pool, p.tables(of)...)
	}
	return mended, Unanswered(confirmed(ctx, pool, err), MoreTime)
}

// sqlWithoutStats lists those of the roles $1 that do not see others' sessions.
const sqlWithoutStats = `SELECT r FROM unnest($1::text[]) AS r WHERE to_regrole(r) IS NOT NULL AND NOT pg_has_role(r, 'pg_read_all_stats', 'USAGE') ORDER BY r`

// makeRoles creates or updates the roles, and says what it could not grant.
func (c *Migrate) makeRoles(ctx context.Context, log *slog.Logger, p *Program, roles string) error {
	pool, err := c.Open(ctx, p)
	if err != nil {
		return err
	}
	defer ClosePool(pool)
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var without []string
	_, err = pool.Exec(ctx, roles)
	if err == nil {
		rows, _ := pool.Query(ctx, sqlWithoutStats, []string{p.service() + "_reader", p.service() + "_streamer"})
		without, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return Unanswered(fmt.Errorf("roles: %w", p.mayNotMake(ctx, pool, roles, err)), MoreTime)
	}
	for _, role := range without {
		log.Warn("this user may not grant pg_read_all_stats or pg_monitor: it sees less of others' sessions, in status for one",
			"role", role, "change", "GRANT pg_read_all_stats TO "+role)
	}
	return Unanswered(confirmed(ctx, pool, nil), MoreTime)
}

// sqlMissingRoles lists those of the roles $1 that somebody has yet to make.
const sqlMissingRoles = `SELECT coalesce(string_agg('CREATE ROLE ' || r, '; '), '') FROM unnest($1::text[]) AS r WHERE to_regrole(r) IS NULL`

// mayNotMake says what to do about err, if it is that this user may make no roles.
func (p *Program) mayNotMake(ctx context.Context, pool *pgxpool.Pool, roles string, err error) error {
	if !postgres.HasNoRight(err) {
		return err
	}
	_, list, _ := strings.Cut(roles, "roles constant text := '")
	list, _, _ = strings.Cut(list, "'")
	var missing string
	if e := pool.QueryRow(ctx, sqlMissingRoles, strings.Split(list, ", ")).Scan(&missing); e != nil || missing == "" {
		return err
	}
	return fmt.Errorf("this user may make no roles: let one with CREATEROLE, or a superuser, say %s; then run it again. Or do without, and let all processes connect as this user (%v)", missing, err)
}

// refuseSecond refuses to make a log beside another one in the database, unless its schema
// was asked for.
func (f *DatabaseFlags) refuseSecond(ctx context.Context, pool *pgxpool.Pool) error {
	others, there, err := f.others(ctx, pool)
	if err != nil || there || others == "" || f.Schema != "" {
		return err
	}
	return fmt.Errorf("the database has its tables in the schema %s, and none in %s: name it by --schema (UNILOG_SCHEMA), or add --schema=%s to make one more log",
		others, f.Schema.Name(), f.Schema.Name())
}

// Repartition gives the log so many partitions, unless that is 0, and says what it
// had.
func (f *DatabaseFlags) Repartition(ctx context.Context, log *slog.Logger, p *Program, timeout time.Duration, partitions int) error {
	if partitions == 0 {
		return nil
	}
	pool, err := f.Open(ctx, p)
	if err != nil {
		return err
	}
	defer ClosePool(pool)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	before, err := f.in().Repartition(ctx, pool, partitions)
	err = confirmed(ctx, pool, err)
	switch {
	case err != nil:
		return Unanswered(err, MoreTime)
	case before == partitions:
		log.Info(fmt.Sprintf("the log has %s already", counted(partitions)))
	default:
		log.Info(fmt.Sprintf("the log has %s now (%d before): records of a key keep their order", counted(partitions), before))
	}
	return nil
}

func counted(partitions int) string {
	if partitions == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", partitions)
}

// AnyMigrate is [Migrate] for a database whose application is not known: for one side
// of it, and with roles of any name.
type AnyMigrate struct {
	Migrate `embed:""`
	Service string `default:"${service}" placeholder:"NAME" help:"What the names of the roles begin with: ${default}, if not set. Of a to z, 0 to 9 and _."`
	Side    string `enum:"both,writers,consumers" default:"both" help:"Which tables: those where records are staged (writers), those where consumers keep their checkpoints (consumers), or both, if not set."`
}

// service is the default of --service.
func (p *Program) service() string { return cmp.Or(p.Service, p.Name) }

var serviceName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,39}$`)

// Validate refuses names that would need quoting, and more.
func (c *AnyMigrate) Validate() error {
	switch {
	case !serviceName.MatchString(c.Service):
		return fmt.Errorf("--service is %q: it must be of a to z, 0 to 9 and _, begin with no digit, and have at most 40 characters", c.Service)
	case c.Side == "consumers" && c.Partitions != 0:
		return errors.New("--partitions is for the writers' side: the log has its partitions there")
	}
	return c.Migrate.Validate()
}

// Run does all that is asked for.
func (c *AnyMigrate) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	named := *p
	named.Service = c.Service
	return c.run(ctx, log, &named, map[string]side{"both": both, "writers": writers, "consumers": consumers}[c.Side])
}
