package pglog

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// Whoever appends notifies the partition here.
	sqlListen = `LISTEN "unilog:published"`

	// silence is how long the connection may say nothing before it is asked
	// whether it lives.
	silence = 10 * time.Second
	// callTimeout bounds that, and the connection's beginning.
	callTimeout = 5 * time.Second
	// farewellTimeout bounds its end.
	farewellTimeout = time.Second
	// connectFirst and connectMost bound the time between attempts to listen.
	connectFirst = 125 * time.Millisecond
	connectMost  = 16 * time.Second
)

// ears hear of what is published, on one connection for all reads of a log. It is
// made when the first one waits. Reads do not depend on it: they look by the
// clock as well, and more often while nothing proves that it hears.
type ears struct {
	pool   *pgxpool.Pool
	schema unilog.Schema
	// silence and callTimeout are the constants of these names, but for tests.
	silence, callTimeout time.Duration

	ctx    context.Context
	cancel context.CancelFunc
	begin  sync.Once
	work   sync.WaitGroup

	mu    sync.Mutex
	news  map[int]chan struct{} // of partitions that someone waits for
	hears bool                  // the last thing that happened was a notification
}

func newEars(pool *pgxpool.Pool, schema unilog.Schema) *ears {
	e := &ears{pool: pool, schema: schema, silence: silence, callTimeout: callTimeout, news: map[int]chan struct{}{}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

func (e *ears) close() {
	e.begin.Do(func() {}) // or a later read would
	e.cancel()
	e.work.Wait()
}

// listen returns a channel that is closed at the partition's next notification,
// and whether there have been some.
func (e *ears) listen(partition int) (news <-chan struct{}, hears bool) {
	e.begin.Do(func() { e.work.Go(e.run) })
	e.mu.Lock()
	defer e.mu.Unlock()
	c, ok := e.news[partition]
	if !ok {
		c = make(chan struct{})
		e.news[partition] = c
	}
	return c, e.hears
}

// missed notes that something was published of which nothing was heard.
func (e *ears) missed() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hears = false
}

// heard wakes the reads of the partition that a notification names, and all for
// one that names none.
func (e *ears) heard(payload string) {
	partition, err := strconv.Atoi(payload)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.hears = true
	for p, c := range e.news {
		if p == partition || err != nil {
			close(c)
			delete(e.news, p)
		}
	}
}

func (e *ears) run() {
	pause := connectFirst
	for e.ctx.Err() == nil {
		listened := e.hear()
		e.missed()
		if pause = min(2*pause, connectMost); listened {
			pause = connectFirst
		}
		select {
		case <-e.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// hear listens until the connection is lost. It returns whether it could, and not
// why not: reads meet what is wrong, too, and say it.
func (e *ears) hear() (listened bool) {
	conn, err := e.connect()
	if err != nil {
		return false
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	err = e.within(func(ctx context.Context) error {
		_, err := conn.Exec(ctx, e.schema.SQL(sqlListen))
		return err
	})
	if err != nil {
		return false
	}
	for {
		ctx, cancel := context.WithTimeout(e.ctx, e.silence)
		n, err := conn.WaitForNotification(ctx)
		cancel()
		switch {
		case err == nil:
			e.heard(n.Payload)
		case e.ctx.Err() == nil && pgconn.Timeout(err):
			if e.within(conn.Ping) != nil {
				return true
			}
			if postgres.Reconnect(e.pool, postgres.CheckPrimary(conn)) != nil {
				return true // reads would look at the old primary of a switchover for ever
			}
		default:
			return true
		}
	}
}

// connect makes a connection like the pool's, but not of it: it would be one
// less for reads.
func (e *ears) connect() (conn *pgx.Conn, err error) {
	config := e.pool.Config()
	config.ConnConfig.OnNotification = nil // or it would be told instead
	err = e.within(func(ctx context.Context) error {
		if config.BeforeConnect != nil {
			if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
				return err
			}
		}
		conn, err = pgx.ConnectConfig(ctx, config.ConnConfig)
		return err
	})
	return conn, err
}

func (e *ears) within(call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(e.ctx, e.callTimeout)
	defer cancel()
	return call(ctx)
}
