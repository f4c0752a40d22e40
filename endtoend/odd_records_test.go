package endtoend_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/status"
)

// odd are records that Stage would refuse, and that Postgres takes from who inserts
// them: values of action, object, key, data, headers and staged_at.
var odd = []string{
	`'a', 'odd', 'deeper than encoding/json reads', (repeat('[', 12000) || repeat(']', 12000))::jsonb, NULL, now()`,
	`'a', 'odd', 'so are its headers', '1', ('{"h": ' || repeat('{"x": [', 6000) || repeat(']}', 6000) || ', "i": "j"}')::jsonb, now()`,
	`'a', 'odd', 'digits', repeat('9', 100000)::jsonb, '{"n": 1e5000, "o": null, "": [true]}', now()`,
	`'a', 'odd', 'never', '1', NULL, 'infinity'`,
	`'a', 'odd', 'always', '1', NULL, '-infinity'`,
	`'a', 'odd', 'too late for RFC 3339', '1', NULL, '294276-01-01'`,
	`'a', 'odd', 'before Christ', '1', NULL, '4713-01-01 BC'`,
	`E'\x01\n', 'odd', E'\x1b[31m\u202e\uffff\r\n', E'{"\\u0001": "\uffff"}', E'{"\\u0001": "\uffff"}', now()`,
}

// TestOddRecordsStopNobody has a record between any two that are odd. All of them go on
// their way, whoever reads them and from where.
func TestOddRecordsStopNobody(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	for _, values := range odd {
		w.Exec(`INSERT INTO unilog.staged_records (action, object, key, data, headers, staged_at) VALUES (` + values + `)`)
		_, err := status.Read(w.Ctx, w.DB, "", w.Log)
		w.Must(err)
		w.Commit("1")
		w.Drain(s)
	}
	config := w.DB.Config()
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	text, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, text)

	for _, from := range []string{"the log", "the archive", "the archive as text"} {
		if from == "the archive" {
			w.Command("XTRIM", w.Stream, "MAXLEN", "0")
		}
		c := w.Consumer(from, func(cfg *consumer.Config) {
			if from == "the archive as text" {
				cfg.Archive = text
			}
			cfg.ParkRejected = true
			cfg.Handler = consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
				if e.Object == "odd" {
					return world.ErrPoison
				}
				return w.Add(from)(ctx, tx, e)
			})
		})
		stop := w.Consumes(c)
		world.AwaitQuery(w, "what is applied from "+from, fmt.Sprint(len(odd)), `SELECT coalesce((SELECT total FROM sums WHERE name = $1), 0)::text`, from)
		stop()
		letters, err := consumer.DeadLetters(w.Ctx, w.DB, from)
		w.Must(err)
		w.WantCount("parked from "+from, len(letters), len(odd))
		for _, l := range letters {
			if year := l.StagedAt.Year(); year < 1970 || year > 9999 {
				t.Errorf("%s: staged in the year %d", l.Key, year)
			}
		}
	}
	_, err = status.Read(w.Ctx, w.DB, "", w.Log)
	w.Must(err)
}
