package reader

import (
	"context"
	"errors"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// Index: checkpoints_pkey, for both. Who moves a checkpoint takes the note back.
const (
	// Of a record that somebody has got past meanwhile, nothing is noted; nor in the
	// checkpoint of a consumer by a deliverer, or the other way round.
	sqlHalted = `
UPDATE unilog.checkpoints SET trouble = $4, rejected = $5, troubled_at = coalesce(troubled_at, clock_timestamp())
WHERE name = $1 AND partition = $2 AND outside = $3 AND ("offset" < $5) IS NOT FALSE
    AND (trouble, rejected) IS DISTINCT FROM ($4, $5)`

	sqlNotHalted = `
UPDATE unilog.checkpoints SET trouble = NULL, rejected = NULL, troubled_at = NULL
WHERE name = $1 AND partition = $2 AND outside = $3 AND troubled_at IS NOT NULL`
)

// noteTimeout bounds the attempt to note a halt, or its end.
const noteTimeout = time.Second

// Owner is whose checkpoint of a partition it is.
type Owner struct {
	DB        unilog.Execer
	Schema    unilog.Schema
	Name      string
	Partition int
	Outside   bool // it is a deliverer
}

// NoteHalt notes in the checkpoint why its owner has halted, for status.Read in other
// processes. It is a courtesy: whether it succeeds changes nothing. It also does so for a
// ctx that has ended.
func NoteHalt(ctx context.Context, o Owner, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	var rejected *int64
	if e := new(unilog.RejectedError); errors.As(why, &e) {
		rejected, why = &e.Offset, e.Err // the row says the rest
	}
	_, err := o.DB.Exec(ctx, o.Schema.SQL(sqlHalted), o.Name, o.Partition, o.Outside, loop.Note(why), rejected)
	return err
}

// ClearHalt takes the note back, if there is one, when its owner goes on.
func ClearHalt(ctx context.Context, o Owner) error {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	_, err := o.DB.Exec(ctx, o.Schema.SQL(sqlNotHalted), o.Name, o.Partition, o.Outside)
	return err
}
