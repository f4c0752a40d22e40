package endtoend_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestDatabaseRestoredToAnEarlierTime puts a copy of a server's files back, and
// then does what the errors say.
func TestDatabaseRestoredToAnEarlierTime(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	data := filepath.Join(server.Options().Dir, "data")
	backup := data + ".backup"
	restart := func(change func()) {
		w.Must(server.Stop(w.Ctx))
		change()
		server = testenv.Restart(t, server)
		w.DB.Reset()
	}
	// One consumer has its state in the database that is restored, one elsewhere.
	elsewhere := *w
	elsewhere.DB = testenv.Database(t, "world", world.MigrateWorld)
	here := func() *consumer.Consumer { return w.Consumer("here") }
	there := func() *consumer.Consumer {
		return w.Consumer("there", func(cfg *consumer.Config) { cfg.DB = elsewhere.DB })
	}
	w.CommitMany(5)
	w.StreamAll()
	w.Consume(here())
	w.Consume(there())
	w.CommitMany(3) // staged, and neither numbered nor published
	restart(func() { w.Run("cp", "-a", data, backup) })
	for range 7 { // terms, each with a later epoch
		w.Commit("1")
		w.StreamAll()
	}
	w.Consume(here())
	w.Consume(there())
	w.WantTotal("here", "15")
	restart(func() {
		w.Must(os.RemoveAll(data))
		w.Must(os.Rename(backup, data))
	})

	w.CommitMany(4) // by writers, who know of nothing
	var ahead *unilog.LogAheadError
	if err := w.Streamer().Run(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 15 || ahead.Database != 5 {
		t.Fatalf("the streamer says %v, want the heads 15 and 5", err)
	}
	// The log still has records that the database has not.
	ahead = nil
	if n, err := here().RunOnce(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 15 || ahead.Database != 5 {
		t.Fatalf("the consumer that was restored applied %d and says %v, want the heads 15 and 5", n, err)
	}
	var lags *unilog.ArchiveLagsError
	if n, err := there().RunOnce(w.Ctx); n != 0 || !errors.As(err, &lags) || lags.Offset != 15 || lags.Archive != 5 {
		t.Errorf("the consumer elsewhere applied %d and says %v, want it to be at 15, ahead of 5", n, err)
	}

	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var waiting errgroup.Group
	waiting.Go(func() error { return here().Run(ctx) })

	// The way out that the messages give, the consumer's restore forgotten at first.
	w.Command("DEL", w.Stream)
	w.StreamAll()
	w.WantCount("stream entries", len(w.Offsets()), 12)
	var consumerAhead *unilog.CheckpointAheadError
	if err := there().Run(w.Ctx); !errors.As(err, &consumerAhead) || consumerAhead.Checkpoint != 15 || consumerAhead.Database != 12 {
		t.Errorf("the consumer elsewhere says %v, want it to be at 15, ahead of 12", err)
	}
	elsewhere.Exec(`DELETE FROM applied WHERE "offset" > 5`)
	elsewhere.Exec(`UPDATE sums SET total = 5`)
	elsewhere.Exec(`UPDATE unilog.checkpoints SET "offset" = 5`)
	w.WantCount("applied by the consumer elsewhere", w.Consume(there()), 7)
	w.AwaitTotal("here", "12")
	stop()
	w.Ended("the consumer", &waiting)
	elsewhere.WantTotal("there", "12")
	w.CheckArchive()
	w.CheckLog()
	w.CheckAudit()
}

// TestDumpRestoredOnANewServer moves a database to a server that has its own
// transaction ids, which are lower.
func TestDumpRestoredOnANewServer(t *testing.T) {
	t.Parallel()
	old := world.SetupOnRedis(t)
	s := old.Streamer()
	old.CommitMany(5)
	old.Drain(s)
	old.Consume(old.Consumer("sum"))
	old.CommitMany(3)
	old.Drain(s)
	old.CommitMany(2)
	s.Close()

	server := testenv.Postgres(t)
	bin := world.Query[string](old, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`)
	dump := filepath.Join(t.TempDir(), "dump")
	old.Run(filepath.Join(bin, "pg_dump"), "--format=custom", "--file="+dump, old.DB.Config().ConnString())
	old.Run(filepath.Join(bin, "pg_restore"), "--exit-on-error", "--dbname="+server.URL(), dump)
	w := *old
	var err error
	w.DB, err = pgxpool.New(w.Ctx, server.URL())
	w.Must(err)
	testenv.ClosePool(t, w.DB)

	const logID = `SELECT log_id::text FROM unilog.log`
	if is, was := world.Query[string](&w, logID), world.Query[string](old, logID); is != was {
		t.Errorf("the log's id is %s, was %s", is, was)
	}
	w.CommitMany(4)
	w.StreamAll()
	w.WantCount("stream entries", len(w.Offsets()), 14)
	w.WantCount("applied", w.Consume(w.Consumer("sum")), 3+2+4)
	w.WantTotal("sum", "14")
	w.CheckArchive()
	w.CheckLog()
	w.CheckAudit()
}
