package endtoend_test

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
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestSessionsOfOtherEncodings stages and consumes on pools of the user's own. Text
// comes as it went, or the setting is named that would change it.
func TestSessionsOfOtherEncodings(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	record := unilog.Record{Action: "né", Object: "größe", Key: "schlüssel", Data: []byte(`{"t": "naïve"}`), Headers: map[string]string{"h": "é"}}
	plain := record
	plain.Headers = nil
	for encoding, works := range map[string]bool{"UTF8": true, "SQL_ASCII": true, "LATIN1": false, "WIN1252": false, "LATIN9": false} {
		config := w.DB.Config()
		config.ConnConfig.RuntimeParams["client_encoding"] = encoding
		db, err := pgxpool.NewWithConfig(w.Ctx, config)
		w.Must(err)
		testenv.ClosePool(t, db)
		stage := func(r unilog.Record) error {
			return pgx.BeginFunc(w.Ctx, db, func(tx pgx.Tx) error { return unilog.Stage(w.Ctx, tx, r) })
		}
		var got []unilog.Record
		c := w.Consumer("écoute", func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive = db, db
			cfg.Handler = consumer.Each(func(_ context.Context, _ pgx.Tx, e unilog.Entry) error { got = append(got, e.Record); return nil })
		})
		_, loaded := deliverer.PostgresCheckpoints(db).Load(w.Ctx, deliverer.CheckpointKey{Name: "crochet", LogID: "log"})
		if works {
			w.Must(errors.Join(stage(record), stage(plain), loaded))
			w.StreamAll()
			w.Consume(c)
			if want := fmt.Sprint([]unilog.Record{record, plain}); fmt.Sprint(got) != want {
				t.Errorf("by %s come %v, want %s", encoding, got, want)
			}
			continue
		}
		for _, r := range []unilog.Record{record, plain} {
			if err := stage(r); !errors.Is(err, unilog.ErrNotStaged) {
				t.Errorf("by %s it is staged: %v", encoding, err)
			}
		}
		w.WantCount("staged by "+encoding, world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
		_, consumed := c.RunOnce(w.Ctx)
		for _, err := range []error{consumed, loaded} {
			if !strings.Contains(fmt.Sprint(err), "client_encoding is "+encoding) {
				t.Errorf("by %s it says %v", encoding, err)
			}
		}
	}
	w.Exec(`INSERT INTO sums VALUES ('écoute', 0)`)
}

// TestDroppedByATrigger has somebody's trigger drop what is staged.
func TestDroppedByATrigger(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER nothing BEFORE INSERT ON unilog.staged_records FOR EACH ROW EXECUTE FUNCTION nothing()`)
	if err := unilog.Stage(w.Ctx, w.DB, world.Record("1")); !errors.Is(err, unilog.ErrNotStaged) {
		t.Errorf("Stage returns %v", err)
	}
}
