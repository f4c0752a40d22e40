package kafkalog_test

import (
	"testing"

	"github.com/rocketrides/unilog"
)

func TestKafkaTrimKeepsTheHead(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 10)...)
	for _, upTo := range []int64{3, 10, 1000} {
		f.must(f.log.Trim(t.Context(), 0, upTo))
		log := f.another()
		if head, err := log.Head(t.Context(), 0); err != nil || head.Offset != 10 || head.LogID != "a" {
			t.Errorf("after a trim to %d the head is %+v, %v", upTo, head, err)
		}
		if read := f.read(unilog.Cursor{}, 100); len(read) == 0 || read[0].Offset > min(10, upTo+1) || read[0].Offset < min(10, upTo) {
			t.Errorf("after a trim to %d it begins with %v", upTo, read)
		}
	}
}
