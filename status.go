package unilog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Status says where everything stands, as the database that records are staged
// in knows it. All of it but Log is read in one snapshot.
type Status struct {
	LogID string `json:"log_id"`
	Epoch int64  `json:"epoch"`
	// Leader is the session that leads, or nil.
	Leader *Session `json:"leader"`
	// Staged records are not numbered yet; the oldest one waits for StagedFor
	// seconds.
	Staged    int64   `json:"staged"`
	StagedFor float64 `json:"staged_for"`
	// Numbered and Published are the last offsets that were; First is the first
	// that the archive holds.
	Numbered  int64 `json:"numbered"`
	Published int64 `json:"published"`
	First     int64 `json:"first"`
	// Trouble is the error by which the streamer's last attempt to publish
	// failed, and TroubledFor for how many seconds none has succeeded. It is
	// empty when the last one did.
	Trouble     string           `json:"trouble,omitempty"`
	TroubledFor float64          `json:"troubled_for,omitempty"`
	Consumers   []ConsumerStatus `json:"consumers"`
	// Old are the transactions that have been open for over a minute.
	Old []Session `json:"old_transactions"`
	// Log is the log's head, unless LogError says why it cannot be had.
	Log      Head   `json:"log"`
	LogError string `json:"log_error,omitempty"`
}

// Session is a session of Postgres.
type Session struct {
	PID         int32  `json:"pid"`
	User        string `json:"user"`
	Application string `json:"application"`
	Address     string `json:"address"`
	// Seconds is how long it has led, or been in its transaction; 0 where the
	// reader may not know, who needs the role pg_read_all_stats.
	Seconds float64 `json:"seconds"`
}

// ConsumerStatus says how far a consumer of this database has come.
type ConsumerStatus struct {
	Name       string `json:"name"`
	Checkpoint int64  `json:"checkpoint"`
	// Lag is in records, and LagSeconds is how long the next one waits for it,
	// or, of those that wait, the first that the archive still holds.
	Lag        int64   `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	// Silent is how many seconds ago it last showed that it is alive.
	Silent      float64 `json:"silent"`
	DeadLetters int64   `json:"dead_letters"`
}

const (
	// Index: log_partitions_pkey, staged_log_records_pkey, log_records_pkey; the
	// staged rows are counted by reading them all.
	sqlStatus = `
SELECT log_id::text, epoch, next_offset - 1, published_offset,
    (SELECT count(*) FROM staged_log_records),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - staged_at) FROM staged_log_records ORDER BY id LIMIT 1), 0)::float8,
    coalesce((SELECT "offset" FROM log_records WHERE partition = $1 ORDER BY partition, "offset" LIMIT 1), next_offset),
    coalesce(trouble, ''), coalesce(extract(epoch FROM clock_timestamp() - troubled_at), 0)::float8
FROM log_partitions WHERE partition = $1`

	// Index: checkpoints_pkey, log_records_pkey, dead_letters_pkey.
	sqlConsumers = `
SELECT c.name, c."offset", p.next_offset - 1 - c."offset",
    coalesce((SELECT extract(epoch FROM clock_timestamp() - r.staged_at) FROM log_records AS r
        WHERE r.partition = c.partition AND r."offset" > c."offset" ORDER BY r.partition, r."offset" LIMIT 1), 0)::float8,
    extract(epoch FROM clock_timestamp() - c.updated_at)::float8,
    (SELECT count(*) FROM dead_letters AS d WHERE d.consumer = c.name AND d.partition = c.partition AND d.discarded_at IS NULL)
FROM checkpoints AS c JOIN log_partitions AS p USING (partition)
WHERE partition = $1
ORDER BY c.name`

	sqlSessions = `
SELECT a.pid, coalesce(a.usename, ''), a.application_name, coalesce(host(a.client_addr), 'local'),
    coalesce(extract(epoch FROM clock_timestamp() - %[1]s), 0)::float8
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND %[2]s
ORDER BY %[1]s
LIMIT 5`

	sqlIsLeader = `a.pid IN (
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND database = a.datid AND classid = $1 AND objid = $2 AND objsubid = 2)`

	sqlIsOld = `a.pid <> pg_backend_pid() AND a.xact_start < clock_timestamp() - make_interval(secs => $1)`
)

// oldTransaction is when an open transaction is worth mentioning.
const oldTransaction = time.Minute

// ReadStatus reads the status. An error means that the database could not be
// read; that the log cannot be is part of the status.
func ReadStatus(ctx context.Context, db Beginner, log Log) (*Status, error) {
	s := new(Status)
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
			return err
		}
		return s.read(ctx, tx)
	})
	if err != nil {
		return nil, fmt.Errorf("read the status: %w", err)
	}
	if log == nil {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if s.Log, err = log.Head(ctx, firstPartition); err != nil {
		s.LogError = err.Error()
	}
	return s, nil
}

// statusTimeout bounds the wait for the log, which may be why someone looks.
const statusTimeout = 2 * time.Second

func (s *Status) read(ctx context.Context, tx pgx.Tx) error {
	err := tx.QueryRow(ctx, sqlStatus, firstPartition).
		Scan(&s.LogID, &s.Epoch, &s.Numbered, &s.Published, &s.Staged, &s.StagedFor, &s.First, &s.Trouble, &s.TroubledFor)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("log_partitions has no row for partition %d", firstPartition)
	}
	if err != nil {
		return err
	}
	leaders, err := collect[Session](ctx, tx, fmt.Sprintf(sqlSessions, "a.backend_start", sqlIsLeader), lockClass, firstPartition)
	if err != nil {
		return err
	}
	if len(leaders) > 0 {
		s.Leader = &leaders[0]
	}
	if s.Consumers, err = collect[ConsumerStatus](ctx, tx, sqlConsumers, firstPartition); err != nil {
		return err
	}
	s.Old, err = collect[Session](ctx, tx, fmt.Sprintf(sqlSessions, "a.xact_start", sqlIsOld), oldTransaction.Seconds())
	return err
}

func collect[T any](ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[T])
}

// slow is how many seconds a record may wait before that is worth mentioning.
const slow = 5

// Troubles says in words what is stuck, and why. None is good news.
func (s *Status) Troubles() []string {
	out := append(s.streamerTroubles(), s.logTroubles()...)
	last := s.Numbered // what every consumer has applied
	for _, c := range s.Consumers {
		last = min(last, c.Checkpoint)
	}
	for _, c := range s.Consumers {
		out = append(out, c.troubles(s, c.Checkpoint == last)...)
	}
	for _, t := range s.Old {
		out = append(out, fmt.Sprintf("session %d (%s) has been in one transaction for %.0f s: "+
			"what it stages is numbered when it commits, and dead rows pile up meanwhile", t.PID, t.Application, t.Seconds))
	}
	return out
}

func (s *Status) streamerTroubles() []string {
	waiting := s.Staged + s.Numbered - s.Published
	switch {
	case s.Trouble != "" && s.Leader == nil:
		return []string{fmt.Sprintf("the streamer has failed for %.0f s and %d records wait; it tries again, if one is running: %s",
			s.TroubledFor, waiting, s.Trouble)}
	case s.Trouble != "":
		return []string{fmt.Sprintf("the streamer has failed for %.0f s and %d records wait: %s", s.TroubledFor, waiting, s.Trouble)}
	case s.Leader == nil:
		return []string{fmt.Sprintf("no streamer leads: %d records wait; start one with `rocketrides streamer`", waiting)}
	case s.StagedFor > slow:
		return []string{fmt.Sprintf("staged records wait for %.0f s to be numbered: see what the streamer logs (session %d)", s.StagedFor, s.Leader.PID)}
	}
	return nil
}

func (s *Status) logTroubles() []string {
	switch {
	case s.LogError != "":
		return []string{"the log cannot be read: " + s.LogError}
	case s.Log.LogID != "" && s.Log.LogID != s.LogID:
		return []string{"the stream belongs to another database: give each database a stream of its own"}
	case s.Log.Offset > s.Numbered:
		return []string{fmt.Sprintf("the log is at offset %d and the database only at %d: was it restored to an earlier time?", s.Log.Offset, s.Numbered)}
	case s.Log.Offset < s.Published:
		return []string{fmt.Sprintf("the log has lost records: it is at offset %d of %d, and the streamer publishes them again", s.Log.Offset, s.Published)}
	}
	return nil
}

// troubles are those of a consumer, which may be the last of all.
func (c ConsumerStatus) troubles(s *Status, last bool) (out []string) {
	behind := fmt.Sprintf("%s is behind by %d records, %.0f s", c.Name, c.Lag, c.LagSeconds)
	keeps := ""
	if last {
		keeps = fmt.Sprintf("; it holds the retention back, unless it has expired: the archive keeps offset %d and later for it", c.Checkpoint+1)
	}
	switch {
	case c.Lag < 0:
		out = append(out, fmt.Sprintf("%s is ahead of the database, at offset %d of %d: was that restored to an earlier time?", c.Name, c.Checkpoint, s.Numbered))
	case c.Lag > 0 && c.Checkpoint+1 < s.First:
		out = append(out, fmt.Sprintf("%s is behind by %d records and the archive begins at offset %d, after its next one: "+
			"unless the log still holds that, forget the consumer and start it anew with --bootstrap", c.Name, c.Lag, s.First))
	case c.LagSeconds <= slow, c.Checkpoint >= s.Published: // it has all there is, or will soon
	case c.Silent > 2*heartbeat.Seconds():
		out = append(out, fmt.Sprintf("%s, and has been silent for %.0f s: it halted or is not running%s", behind, c.Silent, keeps))
	default:
		out = append(out, fmt.Sprintf("%s: see what it logs%s", behind, keeps))
	}
	if c.DeadLetters > 0 {
		out = append(out, fmt.Sprintf("%s has parked %d records: see `rocketrides deadletters list %s`", c.Name, c.DeadLetters, c.Name))
	}
	return out
}
