package kafkalog_test

import (
	"strconv"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestKafkaReportsAreAGroupsOffsets asks as Kafka's own tools do how far a reader is.
func TestKafkaReportsAreAGroupsOffsets(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := f.log.Claim(t.Context(), term(1))
	f.must(err)
	for first := int64(1); first < 10; first += 3 {
		_, err = f.log.Append(t.Context(), term(1), entries(first, first+2))
		f.must(err)
	}
	read, err := f.log.Read(t.Context(), 0, unilog.Cursor{}, 9, 0)
	f.must(err)
	group := f.topic + "/mails"
	committed := func() (offset, lag int64) {
		fetched, err := f.admin.FetchOffsets(t.Context(), group)
		f.must(err)
		ends, err := f.admin.ListCommittedOffsets(t.Context(), f.topic)
		f.must(err)
		at, ok := fetched.Lookup(f.topic, 0)
		end, _ := ends.Lookup(f.topic, 0)
		if !ok {
			t.Fatalf("the group has no offset: %v", fetched)
		}
		return at.At, end.Offset - at.At
	}
	for i, e := range read[:8] {
		for how, c := range map[string]unilog.Cursor{"its position": e.Cursor(), "its offset alone": {Offset: e.Offset}} {
			f.must(f.log.Report(t.Context(), group, map[int]unilog.Cursor{0: c}))
			position, err := strconv.ParseInt(e.Position, 10, 64)
			f.must(err)
			if at, lag := committed(); at != position+1 || lag < 8-int64(i) {
				t.Errorf("offset %d by %s: committed is %d, want %d; its lag is %d", e.Offset, how, at, position+1, lag)
			}
		}
	}
	f.must(f.log.Report(t.Context(), group, map[int]unilog.Cursor{0: read[8].Cursor()}))
	if _, lag := committed(); lag != 0 {
		t.Errorf("at the end, the lag is %d", lag)
	}
	f.must(f.log.Report(t.Context(), group, map[int]unilog.Cursor{0: {}}))
	if at, lag := committed(); at != 0 || lag < 9 {
		t.Errorf("at the beginning, committed is %d, the lag is %d", at, lag)
	}
}
