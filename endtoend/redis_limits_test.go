package endtoend_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestRecordThatRedisDoesNotGive has records that are more than Redis lets a client wait
// for: consumers take them from the archive, and the others from the log.
func TestRecordThatRedisDoesNotGive(t *testing.T) {
	t.Parallel()
	w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), testenv.Redis(t).URL())
	large := `{"text": "` + strings.Repeat("x", unilog.MaxStoredBytes-100) + `"}`
	for _, data := range []string{`{}`, large, `{}`, `{}`, large} {
		w.Exec(`INSERT INTO unilog.staged_records (action, object, data) VALUES ('note', 'size', $1)`, data)
	}
	w.StreamAll()
	w.Command("CONFIG", "SET", "client-output-buffer-limit", "normal 1000000 0 0")
	w.Command("CONFIG", "SET", "proto-max-bulk-len", "1mb")
	applied, fromArchive := 0, 0
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.CountEntries(&applied)
		cfg.Observer.GapFilled = func(entries []unilog.Entry) { fromArchive += len(entries) }
	})
	w.Consume(c)
	w.WantCount("applied", applied, 5)
	if fromArchive == 0 {
		t.Error("nothing was read from the archive")
	}
	w.Must(c.Ready())
	w.Consume(w.Consumer("parking", func(cfg *consumer.Config) {
		cfg.ParkRejected = true
		cfg.Handler = consumer.Each(func(context.Context, pgx.Tx, unilog.Entry) error { return world.ErrPoison })
	}))
	w.WantCount("parked", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters WHERE data::text = $1`, large), 2)

	w.Exec(`INSERT INTO unilog.staged_records (action, object, data) VALUES ('note', 'size', $1)`, large)
	s := w.Streamer()
	if _, err := s.RunOnce(w.Ctx); err == nil || !strings.Contains(err.Error(), "proto-max-bulk-len") {
		t.Errorf("a record that Redis does not take: %v", err)
	}
	w.Command("CONFIG", "SET", "proto-max-bulk-len", "512mb")
	w.Await("the record to be published", func() string {
		if _, err := s.RunOnce(w.Ctx); err != nil {
			return err.Error() // the connection has ended
		}
		return ""
	})
	s.Close()
	w.Consume(c)
	w.WantCount("applied", applied, 6)
}
