package cli

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rocketrides/unilog"
)

// TestPublishedIsSaidOnceASecond publishes a batch each 9 ms, some of them twice, in
// two partitions in the end.
func TestPublishedIsSaidOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
				return slog.Attr{}
			}
			return a
		}}))
		report := published{log: log, spans: map[int]*span{}}
		publish := func(partition int, offset int64) {
			report.add([]unilog.Entry{{Partition: partition, Offset: offset}, {Partition: partition, Offset: offset + 1}})
			time.Sleep(9 * time.Millisecond)
		}
		for i := range 150 {
			publish(0, int64(2*i)+1)
			publish(0, int64(2*i)) // sent again, with the record before
		}
		time.Sleep(3 * time.Second)
		publish(1, 7)
		publish(1, 9)
		report.rest()
		time.Sleep(3 * time.Second)
		want := []string{
			"msg=published records=2 first=1 last=2",
			"msg=published records=110 first=3 last=112",
			"msg=published records=112 first=113 last=224",
			"msg=published records=76 first=225 last=300",
			"msg=published records=2 first=7 last=8 partition=1",
			"msg=published records=2 first=9 last=10 partition=1",
			"",
		}
		if got := strings.Join(want, "\n"); out.String() != got {
			t.Errorf("printed was\n%swant\n%s", out.String(), got)
		}
	})
}
