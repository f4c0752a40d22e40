package main

import (
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/unilogtest"
)

func TestAnOrderIsEarned(t *testing.T) {
	t.Parallel()
	db := unilogtest.Database(t)
	if _, err := db.Exec(t.Context(), sqlTables); err != nil {
		t.Fatal(err)
	}
	if err := place(t.Context(), db, "o1", 995); err != nil {
		t.Fatal(err)
	}
	unilogtest.RequireStaged(t, db, unilog.Record{Action: "create", Object: "order", Key: "o1", Data: []byte(`{"cents": 995}`)})
	unilogtest.Drain(t, db, consumer.Config{Name: "revenue", Handler: consumer.Each(earn)})
	if err := check(t.Context(), db); err != nil {
		t.Error(err)
	}
}
