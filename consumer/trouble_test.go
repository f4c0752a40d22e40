package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestTroubleOfTheHandlersOwnIsNoRejection sees that what the record is not to blame for
// parks nothing, even where the consumer was told to park, and that a consumer whose
// handler is mended goes on.
func TestTroubleOfTheHandlersOwnIsNoRejection(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`CREATE TABLE narrow (n int)`)
	w.Commit("1", "2", "3")
	w.Drain(w.Streamer())
	raise := func(code string) string {
		return fmt.Sprintf(`DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = 'says %[1]s'; END $$`, code)
	}
	fails := func(sql string) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		}
	}
	ignores := func(sql string) func(ctx context.Context, tx pgx.Tx) error {
		return func(ctx context.Context, tx pgx.Tx) error { _ = fails(sql)(ctx, tx); return nil }
	}
	const spoilt = "the handler must leave its transaction"
	for name, c := range map[string]struct {
		handler func(ctx context.Context, tx pgx.Tx) error
		says    string
		halts   bool
	}{
		"no table":            {fails(`INSERT INTO nowhere VALUES (1)`), `relation "nowhere" does not exist`, false},
		"no column":           {fails(`INSERT INTO narrow (m) VALUES (1)`), `column "m"`, false},
		"no schema":           {fails(`CREATE TABLE nowhere.narrow (n int)`), `schema "nowhere" does not exist`, false},
		"no function":         {fails(`SELECT nothing()`), `function nothing() does not exist`, false},
		"no right":            {fails(`SET LOCAL ROLE pg_monitor; INSERT INTO narrow VALUES (1)`), "permission denied", false},
		"another search_path": {fails(`SET LOCAL search_path = pg_catalog; INSERT INTO narrow VALUES (1)`), `relation "narrow" does not exist`, false},
		"a full disk":         {fails(raise("53100")), "says 53100", false},
		"no memory":           {fails(raise("53200")), "says 53200", false},
		"a damaged index":     {fails(raise("XX002")), "says XX002", false},
		"a cancelled query":   {fails(raise("57014")), "says 57014", false},
		"a closed connection": {func(ctx context.Context, tx pgx.Tx) error { return tx.Conn().Close(ctx) }, "conn", false},
		"a connection in use": {func(ctx context.Context, tx pgx.Tx) error {
			_, _ = tx.Query(ctx, `SELECT 1`)
			return fails(`SELECT 1`)(ctx, tx)
		}, "busy", false},
		"a failure ignored": {ignores(`SELECT 1/0`), spoilt, true},
		"… and found later on": {func(ctx context.Context, tx pgx.Tx) error {
			_ = fails(`SELECT 1/0`)(ctx, tx)
			return fails(`SELECT 1`)(ctx, tx)
		}, spoilt, true},
		"a commit":         {func(ctx context.Context, tx pgx.Tx) error { _ = tx.Commit(ctx); return nil }, spoilt, true},
		"a commit's error": {func(ctx context.Context, tx pgx.Tx) error { return tx.Commit(ctx) }, spoilt, true},
		"a rollback":       {func(ctx context.Context, tx pgx.Tx) error { defer tx.Rollback(ctx); return nil }, spoilt, true},
		"ROLLBACK":         {fails(`ROLLBACK`), spoilt, true},
		"a rollback at work": {func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `ROLLBACK`)
			return errors.Join(err, fails(`SAVEPOINT s`)(ctx, tx))
		}, spoilt, true},
		"a COMMIT in a DO": {fails(`DO $$ BEGIN COMMIT; END $$`), "invalid transaction termination", false},
		"VACUUM":           {fails(`VACUUM narrow`), "cannot run inside a transaction block", false},
	} {
		mended := false
		c1 := w.Consumer(name, func(cfg *consumer.Config) {
			cfg.ParkRejected = true
			add := consumer.Each(w.Add(name))
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
				if mended {
					return add(ctx, tx, entries)
				}
				return c.handler(ctx, tx)
			}
		})
		var rejected *unilog.RejectedError
		for range 4 { // batches get smaller
			n, err := c1.RunOnce(w.Ctx)
			if n != 0 || err == nil || errors.As(err, &rejected) || !strings.Contains(err.Error(), c.says) || errors.Is(err, unilog.ErrTransactionSpoiled) != c.halts {
				t.Errorf("%s: it applied %d: %v", name, n, err)
			}
		}
		w.WantReady(c1.Ready, c.says)
		if c.halts {
			if err := w.EndOf(w.Ctx, c1.Run); !errors.Is(err, unilog.ErrTransactionSpoiled) {
				t.Errorf("%s: Run ended with %v", name, err)
			}
		}
		mended = true
		w.WantCount(name+": applied when it is mended", w.Consume(c1), 3)
		w.WantTotal(name, "6")
	}
	w.WantCount("dead letters", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters`), 0)
}

// TestHandlerThatCommitsBySQL cannot be kept from it. What it committed is applied once,
// and the consumer halts.
func TestHandlerThatCommitsBySQL(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{`COMMIT`, `COMMIT AND CHAIN`, `COMMIT; BEGIN`} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			commitsBySQL(t, sql)
		})
	}
}

func commitsBySQL(t *testing.T, sql string) {
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	commits := true
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			err := add(ctx, tx, entries)
			if err == nil && commits {
				_, err = tx.Exec(ctx, sql)
			}
			return err
		}
	})
	if err := w.EndOf(w.Ctx, c.Run); !errors.Is(err, unilog.ErrTransactionSpoiled) {
		t.Errorf("Run ended with %v", err)
	}
	commits = false
	w.Consume(c)
	w.WantTotal("sum", "3")
}

// TestHandlerLeavesNoSettingsBehind sees that a connection whose settings a handler has
// changed for good is nobody's any more.
func TestHandlerLeavesNoSettingsBehind(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	own, err := pgxpool.NewWithConfig(w.Ctx, oneConnection(w.DB))
	w.Must(err)
	testenv.ClosePool(t, own)
	session := func() (pid uint32, settings string) {
		w.Must(own.AcquireFunc(w.Ctx, func(conn *pgxpool.Conn) error {
			pid = conn.Conn().PgConn().PID()
			return conn.QueryRow(w.Ctx, `
				SELECT concat_ws(' ', current_setting('search_path'), current_user, session_user, current_setting('statement_timeout'),
					current_setting('default_transaction_read_only'), (SELECT count(*) FROM pg_listening_channels()))`).Scan(&settings)
		}))
		return pid, settings
	}
	_, want := session()
	for sql, lasts := range map[string]bool{
		`SELECT 1`:                                             true,
		`SET LOCAL search_path = nowhere`:                      true,
		`SET LOCAL ROLE pg_monitor`:                            true,
		`SET search_path = nowhere`:                            false,
		`SET ROLE pg_monitor`:                                  false,
		`SET statement_timeout = 1`:                            false,
		`SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY`: false,
		`SET client_encoding = 'LATIN1'`:                       false,
		`LISTEN something`:                                     false,
		`ROLLBACK; SET statement_timeout = 1`:                  false,
	} {
		before, _ := session()
		c := w.Consumer(sql, func(cfg *consumer.Config) {
			cfg.DB, cfg.BatchRecords = own, 1
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
				if entries[0].Offset == 1 { // it begins well
					return nil
				}
				_, err := tx.Exec(ctx, sql)
				return err
			}
		})
		_, err := c.RunOnce(w.Ctx)
		w.Must(err)
		_, err = c.RunOnce(w.Ctx)
		after, settings := session()
		if settings != want || (before == after) != lasts {
			t.Errorf("after %s (%v) the pool has session %d with %s, before it was %d with %s", sql, err, after, settings, before, want)
		}
	}
	w.Exec(`TRUNCATE unilog.checkpoints`) // these add nothing up
}

// TestConnectionThatIsOfNoUseIsReplaced leaves something on a connection that the handler
// itself stumbles over, which no setting shows.
func TestConnectionThatIsOfNoUseIsReplaced(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2", "3")
	w.Drain(w.Streamer())
	own, err := pgxpool.NewWithConfig(w.Ctx, oneConnection(w.DB))
	w.Must(err)
	testenv.ClosePool(t, own)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.DB, cfg.BatchRecords = own, 1
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if _, err := tx.Exec(ctx, `DECLARE held CURSOR WITH HOLD FOR SELECT 1`); err != nil {
				return err
			}
			return add(ctx, tx, entries)
		}
	})
	w.Consumes(c)
	w.AwaitThat("all to be applied", func() bool { return w.Total("sum") == "6" })
}

func oneConnection(db *pgxpool.Pool) *pgxpool.Config {
	cfg := db.Config()
	cfg.MaxConns = 1
	return cfg
}

// TestRunOfRejectionsHalts sees that a consumer which rejects record after record blames
// its handler, and that a person can let it go on.
func TestRunOfRejectionsHalts(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(45)
	w.Drain(w.Streamer())
	bad := func(offset int64) bool { return offset != 3 }
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			for _, e := range entries {
				if bad(e.Offset) {
					return world.ErrPoison
				}
			}
			return add(ctx, tx, entries)
		}
	})
	haltsAt := func(offset int64) {
		t.Helper()
		var rejected *unilog.RejectedError
		for range 2 { // also when it is started again
			if err := w.EndOf(w.Ctx, c.Run); !errors.As(err, &rejected) || rejected.Offset != offset || !errors.Is(err, world.ErrPoison) || !strings.Contains(err.Error(), "20 records before it") {
				t.Errorf("Run ended with %v, want a halt at offset %d", err, offset)
			}
		}
	}
	haltsAt(24)
	w.WantCount("parked", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters`), 22)
	// They are bad indeed.
	w.Exec(`UPDATE unilog.dead_letters SET discarded_at = now()`)
	haltsAt(44)
	bad = func(int64) bool { return false }
	w.WantCount("applied when it is mended", w.Consume(c), 2)
}
