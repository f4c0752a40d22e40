package redislog

import (
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestReportsAreAHash sees what programs in other languages read and write.
func TestReportsAreAHash(t *testing.T) {
	t.Parallel()
	stream := testenv.StreamName(t)
	l, err := Open(t.Context(), testenv.PatientRedis(testenv.SharedRedis(t)), stream)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	key := "{" + stream + "}:consumers"
	set := l.client.B().Hset().Key(key).FieldValue().FieldValue("0/mails", "7/1700000000123").
		FieldValue("3/a/b", "9/1700000000456"). // a name with a slash
		FieldValue("x/mails", "1/1").FieldValue("mails", "1/1").FieldValue("0/", "1/1").FieldValue("0/m", "1").FieldValue("0/n", "-1/1").
		FieldValue("00/mails", "1/1").Build() // the same partition would be there twice
	if err := l.client.Do(t.Context(), set).Error(); err != nil {
		t.Fatal(err)
	}
	reports, err := l.Reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[unilog.Report]bool{
		{Name: "mails", Offset: 7, Time: time.UnixMilli(1700000000123)}:             true,
		{Name: "a/b", Partition: 3, Offset: 9, Time: time.UnixMilli(1700000000456)}: true,
	}
	for _, r := range reports {
		if !want[r] {
			t.Errorf("it reads %+v", r)
		}
	}
	if len(reports) != len(want) {
		t.Errorf("it reads %d reports", len(reports))
	}
	if err := l.Report(t.Context(), "mails", map[int]unilog.Cursor{2: {Offset: 5}}); err != nil {
		t.Fatal(err)
	}
	value, err := l.client.Do(t.Context(), l.client.B().Hget().Key(key).Field("2/mails").Build()).ToString()
	if r, ok := parseReport("2/mails", value); err != nil || !ok || r.Offset != 5 || time.Since(r.Time).Abs() > time.Hour {
		t.Errorf("it writes %q, %v", value, err)
	}
	tagged := &Log{stream: "of{one}slot"}
	if got := tagged.reportsKey(); got != "of{one}slot:consumers" {
		t.Errorf("the key is %s", got)
	}
}
