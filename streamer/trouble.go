package streamer

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// Index: partitions_pkey, for both.
const (
	sqlTrouble = `
UPDATE unilog.partitions SET trouble = $2, troubled_at = coalesce(troubled_at, clock_timestamp())
WHERE partition = $1 AND trouble IS DISTINCT FROM $2`

	sqlNoTrouble = `UPDATE unilog.partitions SET trouble = NULL, troubled_at = NULL WHERE partition = $1`
)

// noteTimeout bounds the attempt to note a trouble, or its end.
const noteTimeout = time.Second

// noteTrouble tells the database why a leader gives up, for status.Read in other
// processes. It is a courtesy: whether it succeeds changes nothing. It goes by the
// session that holds the leader's lock, so a leader that has been replaced cannot do it.
func (r *reign) noteTrouble(ctx context.Context, partition int, err error) {
	var fenced *unilog.FencedError
	if errors.As(err, &fenced) || errors.Is(err, errNumbersElsewhere) || errors.Is(err, unilog.ErrSimulated) || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	text := loop.Note(err)
	err = r.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, r.cfg.Schema.SQL(sqlTrouble), partition, text)
		return err
	})
	if err != nil {
		r.log.Debug("could not note a trouble in the database", "err", err)
		return
	}
	for _, l := range r.all() {
		if l.partition == partition { // the trouble of who numbers is for its leader to clear
			l.troubled.Store(true)
		}
	}
}

// clearTrouble deletes the note of an earlier failure, now that all is well.
func (l *leader) clearTrouble(ctx context.Context) {
	if !l.troubled.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	err := l.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, l.cfg.Schema.SQL(sqlNoTrouble), l.partition)
		return err
	})
	if err != nil {
		l.log.Debug("could not take back a trouble in the database", "err", err)
		return
	}
	l.troubled.Store(false)
}
