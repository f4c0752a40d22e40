package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// settings of this session: those of its role and database count. The catalogs can
	// be read without any right to the schema.
	sqlSettings = `
SELECT current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_version') AS version,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('wal_level') AS wal_level,
    current_setting('max_prepared_transactions')::int AS prepared,
    ` + postgres.SQLReadOnly + ` AS read_only,
    pg_is_in_recovery() AS standby,
    current_user::text AS role,
    (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
    has_function_privilege('pg_catalog.pg_terminate_backend(integer,bigint)', 'EXECUTE') AS ends,
    (SELECT setting::int FROM pg_settings WHERE name = 'idle_session_timeout') AS idle,
    coalesce((
        SELECT t.tgenabled IN ('O', 'A')
        FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'staged_records' AND t.tgname = 'staged_records_wake'
    ), false) AS wakes,` + sqlDurability
)

type postgresSettings struct {
	durability
	Major                          int
	Version, Fsync, FullPageWrites string
	WALLevel                       string `db:"wal_level"`
	Prepared                       int
	Role                           string
	Superuser, Wakes, Standby      bool
	Ends                           bool
	Idle                           *int // idle_session_timeout in milliseconds, since Postgres 14
	ReadOnly                       bool `db:"read_only"`
}

func examinePostgres(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, program string, tables []string) ([]Finding, error) {
	// Poolers know the simple protocol best.
	rows, err := db.Query(ctx, sqlSettings, pgx.QueryExecModeSimpleProtocol, schema.Name(), tables)
	if err != nil {
		return nil, err
	}
	s, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[postgresSettings])
	if err != nil {
		return nil, err
	}
	findings := s.judge(schema, program)
	sequence, err := examineSequence(ctx, db, schema)
	return append(findings, sequence...), err
}

// examineSequence finds nothing where no records are staged.
func examineSequence(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema) ([]Finding, error) {
	level, found, change := OK, "the ids of staged records are in order", ""
	var bad *unilog.SequenceSettingError
	switch err := postgres.CheckSequence(ctx, db, schema); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case errors.As(err, &bad):
		level, found, change = Unsafe, bad.Found, bad.Change
	case err != nil:
		return nil, err
	}
	return []Finding{about("ids", level, found,
		"records are numbered in the order of their ids, which must be that in which they are staged, or nothing is numbered", change, API, Streamer)}, nil
}

func (s postgresSettings) judge(schema unilog.Schema, program string) []Finding {
	level := func(bad bool, l Level) Level {
		if bad {
			return l
		}
		return OK
	}
	findings := []Finding{
		about("postgres", level(s.Major < postgres.MinVersion, Unsafe), "Postgres is version "+s.Version,
			fmt.Sprintf("%d or later is needed", postgres.MinVersion), "upgrade it", API, Streamer, Consumer),
		s.judgePrimary(),
		about("fsync", level(s.Fsync == "off", Unsafe), "fsync is "+s.Fsync,
			"without it, a crash of Postgres's machine can corrupt the database and lose records that the log has",
			"set fsync = on and reload", API, Streamer, Consumer),
		about("full_page_writes", level(s.FullPageWrites == "off", Unsafe), "full_page_writes is "+s.FullPageWrites,
			"without them, a page that was half written in a crash stays so, unless the file system writes whole pages",
			"set full_page_writes = on and reload", API, Streamer, Consumer),
		about("wal_level", OK, "wal_level is "+s.WALLevel, "it does not matter, as nothing here decodes the WAL", ""),
		about("max_prepared_transactions", level(s.Prepared > 0, Advice), fmt.Sprintf("max_prepared_transactions is %d", s.Prepared),
			"if over 0, the leader must not sleep, because a transaction that wakes it could not be prepared; it asks Postgres 50 times a second or more instead",
			"set it to 0, if nobody uses PREPARE TRANSACTION, and restart Postgres", Streamer),
	}
	findings = slices.Concat(findings, s.durability.judge(s.Role), s.judgeSessions())
	trigger := "enabled"
	if !s.Wakes {
		trigger = "missing or disabled"
	}
	role := "no superuser"
	if s.Superuser {
		role = "a superuser"
	}
	return append(findings,
		about("wake-up trigger", level(!s.Wakes, Advice), "the trigger staged_records_wake is "+trigger,
			"without it nobody wakes the leader, which then asks Postgres 50 times a second or more",
			"run `"+program+" migrate`, then "+schema.SQL("ALTER TABLE unilog.staged_records ENABLE TRIGGER staged_records_wake"), Streamer),
		about("role", level(s.Superuser, Advice), fmt.Sprintf("role %s is %s", s.Role, role),
			"the processes need none, and a superuser can change and read everything",
			"give each process a role with only the rights that it needs"))
}

// leastIdle is for how long at least a pool's connection must be left alone: the pool asks
// it whether it lives only after a second.
const leastIdle = 2000

// judgeSessions finds what hosted servers may keep from a role, or do to its sessions.
func (s postgresSettings) judgeSessions() (findings []Finding) {
	if !s.Ends {
		findings = append(findings, about("pg_terminate_backend", Advice, "role "+s.Role+" may not end sessions, not even its own",
			"a streamer that is frozen while it reads keeps the lead until the kernel gives up its connection; all others are replaced at once",
			"GRANT EXECUTE ON FUNCTION pg_terminate_backend TO the streamers' role, in this database", Streamer))
	}
	if s.Idle != nil && *s.Idle > 0 && *s.Idle < leastIdle {
		findings = append(findings, about("idle_session_timeout", Advice, fmt.Sprintf("idle_session_timeout is %d ms for role %s", *s.Idle, s.Role),
			"Postgres ends the connections of pools just when they are to be used: requests fail, and processes try again",
			fmt.Sprintf("set it to 0 for the role, or to %d ms or more", leastIdle), API, Streamer, Consumer))
	}
	return findings
}

// judgePrimary stops no process: each waits until its address leads to a primary.
func (s postgresSettings) judgePrimary() Finding {
	level, found, change := OK, "Postgres takes writes", ""
	switch {
	case s.Standby:
		level, found, change = Unsafe, "Postgres is a standby", "let DATABASE_URL lead to the primary"
	case s.ReadOnly:
		level, found = Unsafe, "default_transaction_read_only is on for role "+s.Role
		change = "let DATABASE_URL lead to the primary; if this is it, set default_transaction_read_only = off for the server, the database and the role"
	}
	return about("primary", level, found, "writers, streamers and consumers write; where they cannot, they are not ready and connect anew", change)
}

// Encoding is the finding about the encoding of a connection's database.
func Encoding(conn *pgx.Conn) Finding {
	encoding := conn.PgConn().ParameterStatus("server_encoding")
	level, why := OK, "records may have any character"
	switch encoding {
	case postgres.UTF8:
	case "SQL_ASCII":
		level, why = Unsafe, "it takes any byte for text: one that is no UTF-8 would hold up all records behind it"
	default:
		level, why = Unsafe, "it lacks most characters: records with others are refused, and dead letters may not be kept"
	}
	return about("encoding", level, "the encoding of the database is "+encoding, why,
		"create a database of encoding UTF8, and load a dump of this one", API, Streamer, Consumer)
}
