package streamer

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// Index: log_partitions_pkey, for both.
const (
	sqlTrouble = `
UPDATE log_partitions SET trouble = $2, troubled_at = coalesce(troubled_at, clock_timestamp())
WHERE partition = $1 AND trouble IS DISTINCT FROM $2`

	sqlNoTrouble = `UPDATE log_partitions SET trouble = NULL, troubled_at = NULL WHERE partition = $1`
)

const (
	// noteTimeout bounds the attempt to note a trouble, or its end.
	noteTimeout = time.Second
	// troubleBytes bounds the note.
	troubleBytes = 1000
)

// noteTrouble tells the database why this leader gives up, for status.Read in
// other processes. It is a courtesy: whether it succeeds changes nothing. It
// goes by the session that holds the leader's lock, so a leader that has been
// replaced cannot do it.
func (p *publisher) noteTrouble(ctx context.Context, err error) {
	var fenced *unilog.FencedError
	if errors.As(err, &fenced) || errors.Is(err, unilog.ErrSimulated) || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	p.lead.settle()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	text := loop.OneLine(err).Error()
	text = strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), troubleBytes)], "\uFFFD"), "\x00", "\uFFFD")
	if _, err := p.lead.conn.Exec(ctx, sqlTrouble, p.lead.term.Partition, text); err != nil {
		p.log.Debug("could not note a trouble in the database", "err", err)
	}
}

// clearTrouble deletes the note of an earlier failure, now that a batch has
// succeeded.
func (p *publisher) clearTrouble(ctx context.Context) {
	l := p.lead
	if !l.troubled {
		return
	}
	l.settle()
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	if _, err := l.conn.Exec(ctx, sqlNoTrouble, l.term.Partition); err != nil {
		p.log.Debug("could not take back a trouble in the database", "err", err)
		return
	}
	l.troubled = false
}
