package redislog_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// sized returns an entry with so many bytes of data.
func sized(offset int64, bytes int) []unilog.Entry {
	return []unilog.Entry{{Offset: offset, StagedAt: time.Unix(1, 0).UTC(), Record: unilog.Record{
		Action: "create", Object: "ride", Data: []byte(`"` + strings.Repeat("x", bytes) + `"`),
	}}}
}

// TestLimitsOfRedisAreNamed lowers what a client may send, or get, below a record.
func TestLimitsOfRedisAreNamed(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.Redis(t).URL())
	const large = 3 << 19
	first := unilog.Term{Partitions: 1, LogID: "some database", Epoch: 1}
	next := int64(1)
	for setting, usual := range map[string]string{"proto-max-bulk-len": "512mb", "client-query-buffer-limit": "1gb"} {
		f.command("CONFIG", "SET", setting, "1mb")
		if _, err := f.log.Append(t.Context(), first, sized(next, large)); err == nil || !strings.Contains(err.Error(), setting) {
			t.Errorf("%s = 1mb: %v", setting, err)
		}
		f.command("CONFIG", "SET", setting, usual)
		head, err := f.log.Append(t.Context(), first, sized(next, large))
		for try := 0; err != nil && try < 5; try++ { // on a connection that has just ended
			head, err = f.log.Append(t.Context(), first, sized(next, large))
		}
		if err != nil || head != next {
			t.Fatalf("%s = %s: head %d, %v", setting, usual, head, err)
		}
		next++
	}
	for limit, readable := range map[string]bool{"1000000": false, "2000000": true, "0": true} {
		f.command("CONFIG", "SET", "client-output-buffer-limit", "normal "+limit+" 0 0")
		for _, wait := range []time.Duration{0, time.Second} {
			got, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 100, wait)
			switch {
			case readable && (err != nil || len(got) == 0 || got[0].Offset != 1):
				t.Errorf("limit %s, wait %v: %d entries, %v", limit, wait, len(got), err)
			case !readable && (!errors.Is(err, unilog.ErrUnreadable) || !strings.Contains(err.Error(), "client-output-buffer-limit")):
				t.Errorf("limit %s, wait %v: %d entries, %v", limit, wait, len(got), err)
			}
		}
	}
}
