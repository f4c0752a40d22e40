package redislog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
)

// What Redis has to let a client send and get. Its own settings let it much more,
// unless somebody has lowered them.
const (
	// CommandBytes is the most that an append sends: proto-max-bulk-len and
	// client-query-buffer-limit must not be less.
	CommandBytes = 8 * unilog.MaxStoredBytes
	// EntryBytes is the most that one entry takes in a reply: client-output-buffer-limit
	// normal must not be less, or readers cannot have it from here.
	EntryBytes = 2*unilog.MaxStoredBytes + 1<<16
	// ReplyBytes is the most that a reader asks for at once. If Redis gives less, it
	// asks for single entries.
	ReplyBytes = firstPage * EntryBytes
	// leastLimit is the least to which Redis lets these settings be lowered.
	leastLimit = 1 << 20
)

// ended says whether the server has ended the connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// readOne reads one entry after a read of several ended with the connection: the reply
// may have been more than Redis lets a client wait for. If that is so of one entry, too,
// the error is an [unilog.ErrUnreadable].
func (l *Log) readOne(ctx context.Context, partition int, after int64, err error) ([]unilog.Entry, error) {
	if l.Ping(ctx) != nil { // with a new connection
		return nil, err
	}
	entries, again := l.readPage(ctx, nil, partition, after, 1, 0)
	switch {
	case again == nil && len(entries) > 0:
		return entries, nil
	case ended(again) && l.Ping(ctx) == nil:
		return nil, fmt.Errorf("%w: Redis ends the connection in its place: set client-output-buffer-limit normal to 0 0 0, or to %d or more: %w",
			unilog.ErrUnreadable, EntryBytes, again)
	}
	return nil, err
}

// tooMuch says which settings may be why an append was not taken.
func tooMuch(err error, args []string) error {
	size := 0
	for _, arg := range args {
		size += len(arg)
	}
	var refusal *rueidis.RedisError
	if size < leastLimit || !ended(err) && !(errors.As(err, &refusal) && strings.Contains(refusal.Error(), "invalid bulk length")) {
		return err
	}
	return fmt.Errorf("%w: Redis may not take %d bytes at once: see that proto-max-bulk-len and client-query-buffer-limit are %d or more",
		err, size, CommandBytes)
}
