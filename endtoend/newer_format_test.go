package endtoend_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
)

// TestNewerFormatIsRefused: where a newer version has written the log, or the archive, in
// another format, an older one applies nothing, delivers nothing and numbers nothing, and
// says so.
func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	for where, become := range map[string]func(w *world.World, format string){
		"the log": func(w *world.World, format string) { w.Command("HSET", "{"+w.Stream+"}:leader", "format", format) },
		"the archive": func(w *world.World, format string) {
			w.Exec(`UPDATE unilog.log SET format = $1, epoch = epoch + 1`, format) // as a newer migrate does
			w.Command("XTRIM", w.Stream, "MAXLEN", "0")                            // so that it is needed
		},
	} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			leader, standby, c := w.Streamer(), w.Streamer(), w.Consumer("sum")
			var arrivals world.Arrivals
			d := w.Deliverer(arrivals.Deliver)
			w.CommitMany(2)
			w.Drain(leader)
			w.Consume(c)
			w.CommitMany(3)
			w.Drain(leader)
			become(w, "2")
			w.CommitMany(4)

			refused := func(who string, err error) {
				t.Helper()
				if newer := new(unilog.FormatError); !errors.As(err, &newer) || newer.Format != "2" {
					t.Errorf("%s says %v", who, err)
				}
			}
			leader.Close()
			_, err := standby.RunOnce(w.Ctx)
			refused("the streamer", err)
			refused("the consumer", w.EndOf(w.Ctx, c.Run))
			refused("a new consumer", w.EndOf(w.Ctx, w.Consumer("new").Run))
			refused("the deliverer", w.EndOf(w.Ctx, d.Run))
			w.WantTotal("sum", "2")
			w.WantTotal("new", "0")
			arrivals.Want(w)
			if n := world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`); n != 4 {
				t.Errorf("%d records are staged, want 4", n)
			}

			become(w, "1") // as one who knows the format finds it
			w.Drain(standby)
			w.Consume(c)
			w.WantTotal("sum", "9")
		})
	}
}
