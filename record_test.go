package unilog_test

import (
	"reflect"
	"testing"

	"github.com/rocketrides/unilog"
)

// A record is used again for the next one that is read.
func TestSetPayloadReplacesWhatWasThere(t *testing.T) {
	t.Parallel()
	var r unilog.Record
	for _, c := range []struct {
		payload     []byte
		contentType string
		want        unilog.Record
	}{
		{[]byte(`{}`), "", unilog.Record{Data: []byte(`{}`)}},
		{[]byte{0x80}, "a/b", unilog.Record{Body: []byte{0x80}, ContentType: "a/b"}},
		{nil, "a/c", unilog.Record{Body: []byte{}, ContentType: "a/c"}},
		{[]byte(`1`), "", unilog.Record{Data: []byte(`1`)}},
	} {
		r.SetPayload(c.payload, c.contentType)
		if !reflect.DeepEqual(r, c.want) {
			t.Errorf("it is %+v, want %+v", r, c.want)
		}
	}
}
