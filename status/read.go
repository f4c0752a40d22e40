package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// Index: none; the tables that there are.
	sqlServer = `
SELECT clock_timestamp(), ` + postgres.SQLReadOnly + `, ARRAY(
    SELECT oid::regclass::text FROM pg_class
    WHERE relpersistence = 'u' AND relkind = 'r'
        AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'unilog.staged_records'::regclass)
    ORDER BY oid)`

	// Index: none; sessions.
	sqlUnconfirmed = `
SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8
FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'`

	// Index: staged_records_pkey for the oldest one; they are counted by reading
	// them all.
	sqlStagedStatus = `
SELECT count(*), count(*) FILTER (WHERE id <= (SELECT low_water FROM unilog.log)), coalesce(
    (SELECT extract(epoch FROM clock_timestamp() - least(greatest(staged_at, '1970-01-01'), '9999-01-01')) FROM unilog.staged_records ORDER BY id LIMIT 1), 0)::float8
FROM unilog.staged_records`

	// Index: batches_pkey, once for each of a handful of rows.
	sqlPartitionStates = `
SELECT l.log_id::text, p.partition, p.partition < l.partitions, p.epoch, p.next_offset - 1, p.published_offset,
    coalesce((SELECT first_offset FROM unilog.batches AS b WHERE b.partition = p.partition ORDER BY last_offset LIMIT 1), p.next_offset),
    coalesce(p.trouble, ''), coalesce(extract(epoch FROM clock_timestamp() - p.troubled_at), 0)::float8
FROM unilog.partitions AS p CROSS JOIN unilog.log AS l
ORDER BY p.partition`

	// A consumer that has not registered in a partition begins at its beginning. Its next
	// record is in the first batch that ends after its checkpoint.
	// Index: checkpoints_pkey, batches_pkey, dead_letters_pkey.
	sqlConsumers = `
SELECT name, partition, coalesce(c."offset", 0), next_offset - 1 - coalesce(c."offset", 0),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - b.staged_at[greatest(coalesce(c."offset", 0) - b.first_offset + 2, 1)::integer])
        FROM unilog.batches AS b
        WHERE b.partition = p.partition AND b.last_offset > coalesce(c."offset", 0) ORDER BY b.last_offset LIMIT 1), 0)::float8,
    extract(epoch FROM clock_timestamp() - max(c.updated_at) OVER (PARTITION BY name))::float8,
    extract(epoch FROM clock_timestamp() - coalesce(c.updated_at, max(c.updated_at) OVER (PARTITION BY name)))::float8,
    (SELECT count(*) FROM unilog.dead_letters AS d WHERE d.consumer = name AND d.partition = p.partition AND d.discarded_at IS NULL),
    extract(epoch FROM clock_timestamp() - min(c.paused_at) OVER (PARTITION BY name))::float8, coalesce(min(c.paused_by) OVER (PARTITION BY name), ''),
    c.trouble, coalesce(extract(epoch FROM clock_timestamp() - c.troubled_at), 0)::float8, coalesce(c.rejected, 0)
FROM (SELECT DISTINCT name FROM unilog.checkpoints) AS n CROSS JOIN unilog.partitions AS p LEFT JOIN unilog.checkpoints AS c USING (name, partition)
ORDER BY name, partition`

	sqlHasConsumers    = `SELECT to_regclass('unilog.checkpoints') IS NOT NULL`
	sqlMembersReadable = `SELECT coalesce(has_table_privilege(to_regclass('unilog.members'), 'SELECT'), false)`

	// Index: members_pkey; a row for each process.
	sqlMembers = `
SELECT name, count(*) FROM unilog.members
WHERE seen_at > clock_timestamp() - interval '3 s'
GROUP BY name`

	sqlSessionOf = `a.pid, coalesce(a.usename, ''), a.application_name, coalesce(host(a.client_addr), 'local'),
    coalesce(extract(epoch FROM clock_timestamp() - %s), 0)::float8`

	// Where a hosted server does not show sessions, less is known of them.
	sqlSessionsReadable = `
SELECT has_table_privilege('pg_catalog.pg_stat_activity', 'SELECT')
    AND has_function_privilege('pg_catalog.pg_stat_get_activity(integer)', 'EXECUTE')`

	sqlNoSessions = `(SELECT DISTINCT pid, 'unknown' AS usename, ''::text AS application_name, NULL::inet AS client_addr, NULL::timestamptz AS backend_start FROM pg_locks)`

	// Who leads which partition, and, as that of number -1, who numbers.
	sqlLeaders = `
SELECT CASE l.classid::integer WHEN ` + locks.Leader + ` THEN l.objid::bigint ELSE -1 END, ` + sqlSessionOf + `
FROM pg_locks AS l JOIN %s AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid::integer = ` + locks.Leader + ` OR l.classid::integer = ` + locks.Staged + ` AND l.objid = $1)`

	sqlOld = `
SELECT ` + sqlSessionOf + `
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    AND a.xact_start < clock_timestamp() - make_interval(secs => $1)
ORDER BY a.xact_start
LIMIT 5`
)

const (
	// oldTransaction is when an open transaction is worth mentioning.
	oldTransaction = time.Minute
	// statusTimeout bounds the wait for the log, which may be why someone looks.
	statusTimeout = 2 * time.Second
	// headsAtOnce is how many partitions the log is asked for at the same time.
	headsAtOnce = 32
)

// Beginner begins a transaction: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// source is a transaction that reads the tables of a schema.
type source struct {
	pgx.Tx
	schema unilog.Schema
}

func (s source) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.Tx.Query(ctx, s.schema.SQL(sql), args...)
}

func (s source) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return s.Tx.QueryRow(ctx, s.schema.SQL(sql), args...)
}

// Read reads the status of the log in a schema. An error means that the database could
// not be read; that the log cannot be is part of the status. Without a log, as when it
// could not be opened, nothing is said of it but a LogError that the caller sets.
func Read(ctx context.Context, db Beginner, schema unilog.Schema, log unilog.Log) (*Status, error) {
	if err := schema.Check(); err != nil {
		return nil, err
	}
	s := new(Status)
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
			return err
		}
		return s.read(ctx, source{tx, schema})
	})
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", postgres.Explain(err))
	}
	if log != nil {
		s.asked = true
		s.readLog(ctx, log)
		err = s.compareAgain(ctx, db, schema)
	}
	if err == nil {
		err = s.readElsewhere(ctx, db, schema, log)
	}
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	return s, nil
}

func (s *Status) read(ctx context.Context, tx source) error {
	batch := new(pgx.Batch)
	postgres.Bound(ctx, batch)
	batch.Queue(postgres.SQLSettings)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, sqlSessionsReadable).Scan(&s.seesSessions); err != nil {
		return err
	}
	if err := s.readHidden(ctx, tx); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, sqlServer).Scan(&s.Time, &s.ReadOnly, &s.Unlogged); err != nil {
		return err
	}
	if s.seesSessions {
		if err := tx.QueryRow(ctx, sqlUnconfirmed).Scan(&s.Unconfirmed, &s.UnconfirmedFor); err != nil {
			return err
		}
	}
	if err := tx.QueryRow(ctx, sqlStagedStatus).Scan(&s.Staged, &s.Passed, &s.StagedFor); err != nil {
		return err
	}
	var sequence *unilog.SequenceSettingError
	if err := postgres.CheckSequence(ctx, tx.Tx, tx.schema); errors.As(err, &sequence) {
		s.NoOrder = sequence.Error()
	} else if err != nil {
		return err
	}
	if err := s.readPartitions(ctx, tx); err != nil {
		return err
	}
	if err := s.readConsumers(ctx, tx); err != nil {
		return err
	}
	if !s.seesSessions {
		s.Old = []Session{}
		return nil
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(sqlOld, "a.xact_start"), oldTransaction.Seconds())
	if err != nil {
		return err
	}
	s.Old, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Session])
	return err
}

func (s *Status) readPartitions(ctx context.Context, tx source) error {
	rows, err := tx.Query(ctx, sqlPartitionStates)
	if err != nil {
		return err
	}
	var p Partition
	_, err = pgx.ForEachRow(rows, []any{&s.LogID, &p.Partition, &p.Active, &p.Epoch, &p.Numbered, &p.Published, &p.First, &p.Trouble, &p.TroubledFor}, func() error {
		if p.Partition != len(s.Partitions) {
			return fmt.Errorf("the table partitions has no row for partition %d", len(s.Partitions))
		}
		s.Partitions = append(s.Partitions, p)
		return nil
	})
	if err != nil {
		return err
	}
	if len(s.Partitions) == 0 {
		return errors.New("the table partitions has no row for partition 0")
	}
	sessions := "pg_stat_activity"
	if !s.seesSessions {
		sessions = sqlNoSessions
	}
	if rows, err = tx.Query(ctx, fmt.Sprintf(sqlLeaders, "a.backend_start", sessions), locks.Numberer); err != nil {
		return err
	}
	var partition int
	var l Session
	_, err = pgx.ForEachRow(rows, []any{&partition, &l.PID, &l.User, &l.Application, &l.Address, &l.Seconds}, func() error {
		session := l
		if !s.seesSessions {
			session.Address = "unknown"
		}
		switch {
		case partition < 0:
			s.Numberer = &session
		case partition < len(s.Partitions):
			s.Partitions[partition].Leader = &session
		}
		return nil
	})
	all := sum(s.Partitions)
	s.Epoch, s.Leader = all.Epoch, all.Leader
	s.Numbered, s.Published, s.First, s.Trouble, s.TroubledFor = all.Numbered, all.Published, all.First, all.Trouble, all.TroubledFor
	return err
}

// readConsumers reads those that keep their checkpoints in this database.
func (s *Status) readConsumers(ctx context.Context, tx source) error {
	s.Consumers = []Consumer{}
	var registered bool
	if err := tx.QueryRow(ctx, sqlHasConsumers).Scan(&registered); err != nil || !registered {
		return err
	}
	members, err := readMembers(ctx, tx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, sqlConsumers)
	if err != nil {
		return err
	}
	s.Consumers, err = collect(rows, members)
	return err
}

// collect puts the partitions of consumers together, which come one after the other. What
// is known of dead letters, pauses and halts follows the rest, if it is.
func collect(rows pgx.Rows, members map[string]int) ([]Consumer, error) {
	all := []Consumer{}
	var name string
	var p ConsumerPartition
	var seen float64
	var letters int64
	var paused *float64
	var by string
	var trouble *string
	var halted Halt
	into := []any{&name, &p.Partition, &p.Checkpoint, &p.Lag, &p.LagSeconds, &seen, &p.Silent, &letters, &paused, &by, &trouble, &halted.Seconds, &halted.Offset}
	_, err := pgx.ForEachRow(rows, into[:len(rows.FieldDescriptions())], func() error {
		if p.Partition == 0 {
			all = append(all, Consumer{Name: name, Silent: seen, Processes: members[name], Behind: []ConsumerPartition{}})
		}
		c := &all[len(all)-1]
		if paused != nil {
			c.Paused = &Pause{*paused, by}
		}
		c.Checkpoint, c.Lag, c.DeadLetters = c.Checkpoint+p.Checkpoint, c.Lag+p.Lag, c.DeadLetters+letters
		if p.LagSeconds > c.LagSeconds {
			c.LagSeconds, c.Slowest = p.LagSeconds, p.Partition
		}
		if p.Halted = nil; trouble != nil {
			p.Halted = &Halt{halted.Offset, halted.Seconds, *trouble}
		}
		if p.Lag != 0 || p.Halted != nil {
			c.Behind = append(c.Behind, p)
		}
		return nil
	})
	return all, err
}

// readMembers counts the processes of each consumer, if the reader may.
func readMembers(ctx context.Context, tx source) (map[string]int, error) {
	var readable bool
	if err := tx.QueryRow(ctx, sqlMembersReadable).Scan(&readable); err != nil || !readable {
		return nil, err
	}
	rows, err := tx.Query(ctx, sqlMembers)
	if err != nil {
		return nil, err
	}
	members := map[string]int{}
	var name string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error { members[name] = n; return nil })
	return members, err
}

// readLog asks for all heads within one bound of time.
func (s *Status) readLog(ctx context.Context, log unilog.Log) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	eachAtOnce(len(s.Partitions), func(i int) {
		p := &s.Partitions[i]
		var err error
		if p.Log, err = log.Head(ctx, i); err != nil {
			p.LogError = err.Error()
		}
	})
	all := sum(s.Partitions)
	s.Log, s.LogError = all.Log, all.LogError
}

// compareAgain looks whether a log that seems to be ahead of the database only grew
// with it since: then it is shown as far as the database was.
func (s *Status) compareAgain(ctx context.Context, db Beginner, schema unilog.Schema) error {
	isAhead := func(p Partition) bool { return p.Log.Offset > p.Numbered }
	if !slices.ContainsFunc(s.Partitions, isAhead) {
		return nil
	}
	var numbered []int64
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, err := source{tx, schema}.Query(ctx, archive.SQLNumbered)
		if err == nil {
			numbered, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := range s.Partitions {
		if p := &s.Partitions[i]; isAhead(*p) && i < len(numbered) && p.Log.Offset <= numbered[i] {
			p.Log.Offset = p.Numbered
		}
	}
	s.Log = sum(s.Partitions).Log
	return nil
}

// Heads returns the heads of the log's partitions: of as many as the log says
// that it has, or as are known of, if that is more. They are asked for at the same
// time, but for the first one.
func Heads(ctx context.Context, log unilog.Log, known int) ([]unilog.Head, error) {
	first, err := log.Head(ctx, 0)
	if err != nil {
		return nil, err
	}
	heads := make([]unilog.Head, max(first.Partitions, known, 1))
	errs := make([]error, len(heads))
	heads[0] = first
	eachAtOnce(len(heads)-1, func(i int) { heads[i+1], errs[i+1] = log.Head(ctx, i+1) })
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return heads, nil
}

func eachAtOnce(n int, do func(i int)) {
	var group errgroup.Group
	group.SetLimit(headsAtOnce)
	for i := range n {
		group.Go(func() error { do(i); return nil })
	}
	_ = group.Wait()
}
