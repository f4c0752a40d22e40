package unilog_test

import (
	"testing"

	"github.com/rocketrides/unilog"
)

func TestParseKind(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]unilog.Kind{
		"order":        {Object: "order"},
		"order/create": {Object: "order", Action: "create"},
		"a.b/c.d":      {Object: "a.b", Action: "c.d"},
	} {
		kind, err := unilog.ParseKind(text)
		if err != nil || kind != want || kind.String() != text {
			t.Errorf("%q is read as %q, with error %v", text, kind, err)
		}
	}
	for _, text := range []string{"", "/", "/create", "order/", "a/b/c", "unilog", "unilog/repartition", "a\x00b"} {
		if kind, err := unilog.ParseKind(text); err == nil {
			t.Errorf("%q is taken, as %q", text, kind)
		}
	}
}

func TestKindsIncludeRecords(t *testing.T) {
	t.Parallel()
	record := &unilog.Record{Object: "order", Action: "create"}
	for _, c := range []struct {
		kinds []unilog.Kind
		want  bool
	}{
		{nil, true},
		{[]unilog.Kind{{Object: "order"}}, true},
		{[]unilog.Kind{{Object: "customer"}, {Object: "order", Action: "create"}}, true},
		{[]unilog.Kind{{Object: "order", Action: "cancel"}}, false},
		{[]unilog.Kind{{Object: "customer", Action: "create"}}, false},
	} {
		if got := unilog.IncludedIn(c.kinds, record); got != c.want {
			t.Errorf("%v include it: %v", c.kinds, got)
		}
	}
}
