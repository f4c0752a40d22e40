package world

import (
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// BodyRecord notes an amount in bytes that are no text.
func BodyRecord(amount string) unilog.Record {
	return unilog.Record{Action: "note", Object: "amount", Body: []byte("\x00\x80" + amount), ContentType: "application/x-amount"}
}

// data is what a record of either kind notes, as JSON.
func data(r *unilog.Record) []byte {
	if r.ContentType == "" {
		return r.Data
	}
	return fmt.Appendf(nil, `{"amount": %s}`, r.Body[2:])
}

// NoteBodies is Note, of records with a body.
func (w *World) NoteBodies(tx pgx.Tx, amounts ...string) { w.noteAs(BodyRecord, tx, amounts) }

// CommitBodies is Commit, of records with a body.
func (w *World) CommitBodies(amounts ...string) {
	w.Helper()
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		w.NoteBodies(tx, amounts...)
		return nil
	}))
}
