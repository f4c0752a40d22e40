package endtoend_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestStrangersUnderLoad(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world.World){
		"trim everything":      func(w *world.World) { w.Command("XTRIM", w.Stream, "MAXLEN", "0") },
		"delete the stream":    func(w *world.World) { w.Command("DEL", w.Stream) },
		"flush everything":     func(w *world.World) { w.Command("FLUSHALL") },
		"flush the scripts":    func(w *world.World) { w.Command("SCRIPT", "FLUSH") },
		"cut every connection": func(w *world.World) { w.Command("CLIENT", "KILL", "TYPE", "normal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), testenv.Redis(t).URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				spoil(w)
			}
			l.goOn()
			w.Wipe() // what was trimmed comes back in the stream only if that is rebuilt
			l.finish()
		})
	}
}

// TestIDsByTheClock: an offset is no time, so Redis's clock may jump. An entry
// whose id is a time is a stranger's, beyond any offset, and taken for nothing.
func TestIDsByTheClock(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][]string{
		"with fields of its own": {"sensor", "1"},
		"like a record":          {"data", `{"amount":1000}`, "action", "note", "object", "amount", "staged_at", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			leader, c := w.Streamer(), w.Consumer("sum")
			w.CommitMany(5)
			w.Drain(leader)
			w.Consume(c)
			w.Command(append([]string{"XADD", w.Stream, "*"}, fields...)...)

			if _, err := c.RunOnce(w.Ctx); err == nil {
				t.Error("the consumer reads it")
			}
			var ahead *unilog.LogAheadError
			w.CommitMany(5)
			if _, err := leader.RunOnce(w.Ctx); !errors.As(err, &ahead) || !strings.Contains(err.Error(), "somebody else") {
				t.Errorf("the leader says %v", err)
			}
			// The leader has numbered them, unless it looked after the log first.
			if _, err := w.Streamer().RunOnce(w.Ctx); !errors.As(err, &ahead) || ahead.Database != 5 && ahead.Database != 10 {
				t.Errorf("the next one says %v", err)
			}
			w.Command("DEL", w.Stream) // the way out that the message gives
			w.Drain(leader)
			w.Consume(c)
			w.WantTotal("sum", "10")
		})
	}
}
