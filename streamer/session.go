package streamer

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlSession sets what the streamer relies on, whatever the database or the role has
// set. $1 is how many milliseconds the session may be silent: it ends, and with it its
// locks, soon after its client has gone silent, frozen or cut off without a word.
//
// No compiled plans: compiling takes far longer than running. What is looked for in
// large tables is found by an index, also before there are statistics. A hidden row is an error,
// not a hole. Each statement must see what was committed before it. What is numbered
// must be on disk, and on the synchronous standbys, before the log has it. Whether the server takes writes is not set: one
// that was made read only, as in a switchover, is no longer numbered on.
const sqlSession = `
SELECT set_config('idle_session_timeout', $1, false),
    set_config('idle_in_transaction_session_timeout', $1, false),
    set_config('statement_timeout', $2, false),
    set_config('lock_timeout', $2, false),
    (SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'),
    set_config('tcp_keepalives_idle', '5', false),
    set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '2', false),
    set_config('tcp_user_timeout', '5s', false),
    set_config('client_encoding', 'UTF8', false),
    set_config('DateStyle', 'ISO', false),
    set_config('standard_conforming_strings', 'on', false),
    set_config('search_path', '', false),
    set_config('row_security', 'off', false),
    set_config('jit', 'off', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_bitmapscan', 'off', false),
    set_config('default_transaction_isolation', 'read committed', false),
    CASE WHEN current_setting('synchronous_commit') IN ('off', 'local') THEN set_config('synchronous_commit', 'on', false) END`

// sqlKeepMemory makes glibc, in the server's process, keep up to 32 MB of the memory that a
// statement has freed for the next one: glibc gives back what exceeds twice the largest
// piece that was ever freed. Otherwise each numbering of 5,000 records would get its 9 MB
// anew from the system, page by page, which takes a quarter of its time. Not a constant,
// which would be made when the statement is planned; and not byte by byte, which takes six
// times as long.
const sqlKeepMemory = `SELECT octet_length(repeat(repeat(' ', 65536), (256 + 0 * random())::integer))`

// session is a connection of the streamer's own. It is safe for concurrent use: those
// who use it take turns.
type session struct {
	conn *pgx.Conn
	pid  uint32 // as the server knows it: a pooler greets with another one
	mu   sync.Mutex

	// silent says that the server no longer answers, as far as another session has told.
	silent atomic.Bool

	// users wait for the connection. interrupt ends the wait for a notification, which
	// has the connection meanwhile.
	users     atomic.Int32
	waiting   sync.Mutex
	interrupt context.CancelFunc
}

// connect makes a connection like those of the pool, but not of it.
func connect(ctx context.Context, cfg *Config) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	s := new(session)
	config := cfg.DB.Config()
	config.ConnConfig.OnNotification = nil
	postgres.NoteUnconfirmed(config.ConnConfig)
	// At the end of a context, the pool's connections may be set to ask the server to
	// cancel, and to wait for that longer than a session may be silent.
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.DeadlineContextWatcherHandler{Conn: c.Conn()}
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
	}
	err := postgres.Patiently(ctx, func(ctx context.Context) (err error) {
		s.conn, err = pgx.ConnectConfig(ctx, config.ConnConfig)
		if postgres.HasTooFewConnections(err) {
			cfg.DB.Reset() // one of the pool's may do for the session, without which all the others are in vain
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if err := postgres.CheckServer(s.conn); err != nil {
		s.close()
		return nil, err
	}
	if err := s.begin(ctx, cfg.SessionTimeout); err != nil {
		s.close()
		return nil, fmt.Errorf("begin a session: %w", err)
	}
	return s, nil
}

// begin sets the session's settings, unless that would be to set them for others.
func (s *session) begin(ctx context.Context, silence time.Duration) error {
	pooler, err := postgres.FindPooler(ctx, s.conn)
	if err != nil {
		return err
	}
	if pooler == postgres.SharedPooler {
		return unilog.ErrPooled
	}
	var batch pgx.Batch
	batch.Queue(sqlSession, fmt.Sprint(silence.Milliseconds()), fmt.Sprint(loop.CallTimeout.Milliseconds()))
	batch.Queue(`SELECT pg_catalog.pg_backend_pid()`).QueryRow(func(row pgx.Row) error { return row.Scan(&s.pid) })
	return s.conn.SendBatch(ctx, &batch).Close()
}

// close gives back the session's locks, so that another streamer can have them at once,
// and ends it: the server notices the end of a connection later. It does not wait for
// a server that is silent.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.silent.Load() {
		_, _ = s.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`)
	}
	_ = s.conn.Close(ctx) // it ends, whoever ends it
}

// abandon ends the connection, whoever uses it. The server gives its locks back, and the
// next who uses it meets the loss.
func (s *session) abandon() { _ = s.conn.PgConn().Conn().Close() }

// use lets f use the connection alone, for no longer than a call may take.
func (s *session) use(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	s.users.Add(1)
	s.disturb()
	s.mu.Lock()
	s.users.Add(-1)
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	return postgres.Explain(f(ctx, s.conn))
}

// commit is use for statements of which it must be known that they are committed, on
// the synchronous standbys too. Otherwise it returns an error.
func (s *session) commit(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	return s.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_ = postgres.CheckConfirmed(conn) // of those who have not asked
		if err := f(ctx, conn); err != nil {
			return err
		}
		return postgres.CheckConfirmed(conn)
	})
}

// sqlConfirm commits something that leaves nothing behind.
const sqlConfirm = `SELECT pg_logical_emit_message(true, 'unilog', '')`

// confirm returns nil if all that any session has seen committed before is on the
// synchronous standbys: they have what comes before in the write-ahead log, too.
func (s *session) confirm(ctx context.Context) error {
	err := s.commit(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sqlConfirm)
		return err
	})
	if err != nil {
		return fmt.Errorf("confirm what was numbered: %w", err)
	}
	return nil
}

// wait waits for a notification until somebody else uses the connection, or disturbs it
// after enough has become true. It returns the payloads of the notifications that have
// come. The connection's loss is met by the next who uses it.
func (s *session) wait(ctx context.Context, most time.Duration, enough func() bool) (payloads []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	s.waiting.Lock()
	s.interrupt = cancel
	if s.users.Load() > 0 || enough() {
		cancel()
	}
	s.waiting.Unlock()
	n, err := s.conn.WaitForNotification(ctx)
	s.waiting.Lock()
	s.interrupt = nil
	s.waiting.Unlock()
	if err != nil {
		return nil
	}
	return append(s.takeNotifications(), n.Payload)
}

// disturb ends wait.
func (s *session) disturb() {
	s.waiting.Lock()
	defer s.waiting.Unlock()
	if s.interrupt != nil {
		s.interrupt()
	}
}

// takeNotifications takes out those that have come, which the connection keeps
// otherwise, as many as there are.
func (s *session) takeNotifications() (payloads []string) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		n, err := s.conn.WaitForNotification(over)
		if err != nil {
			return payloads
		}
		payloads = append(payloads, n.Payload)
	}
}

// keepAlive shows Postgres that the process lives, until stop is called.
func (s *session) keepAlive(silence time.Duration) (stop func()) {
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(silence / 4)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			// What takes as long as this is lost anyway, and stop waits for it.
			ctx, cancel := context.WithTimeout(context.Background(), min(silence, loop.CallTimeout))
			if s.mu.TryLock() { // or else it says something anyway
				_ = s.conn.Ping(ctx) // its loss is met by the next who uses it
				s.mu.Unlock()
			}
			cancel()
		}
	}()
	return func() { close(over); <-ended }
}
