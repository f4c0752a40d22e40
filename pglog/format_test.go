package pglog_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/pglog"
)

// TestFormatOfANewerVersion: nothing is read from such a log, nor published in it.
func TestFormatOfANewerVersion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.stage(1, 3)
	w.drain(s)
	w.exec(`UPDATE unilog.log SET format = 2, epoch = epoch + 1`) // as a newer migrate does
	w.stage(4, 4)
	_, headErr := w.log.Head(w.ctx, 0)
	_, claimErr := w.log.Claim(w.ctx, unilog.Term{Epoch: 1 << 40})
	_, readErr := w.log.Read(w.ctx, 0, unilog.Cursor{}, 10, 0)
	_, openErr := pglog.Open(w.ctx, w.db, "")
	_, streamErr := fixtures.Bare(t, w.db).Patiently(s.RunOnce)
	for call, err := range map[string]error{"Head": headErr, "Claim": claimErr, "Read": readErr, "Open": openErr, "a streamer": streamErr} {
		if newer := new(unilog.FormatError); !errors.As(err, &newer) || newer.Format != "2" {
			t.Errorf("%s says %v", call, err)
		}
	}
}
