package redislog

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
)

//go:embed read.lua
var readLua string

var readScript = rueidis.NewLuaScript(readLua)

// A stream is asked by number, and the sizes of its entries are known only when they
// have come. So the first page is small. The next ones are as large as is safe: Redis
// is asked how far the log goes and where its last large entry is, and what lies
// between is small.
const (
	firstPage = 8 // of the largest entries, twice unilog.ReadBytes
	largePage = unilog.ReadBytes / largeEntry
)

// Read implements [unilog.Log] by XREAD, which blocks if wait is positive.
func (l *Log) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	ask := min(limit, firstPage)
	entries, err := l.readPage(ctx, nil, partition, after.Offset, ask, wait)
	size := 0
	entries = upToBytes(entries, 0, &size)
	if err != nil || len(entries) < ask || len(entries) == limit || size >= unilog.ReadBytes {
		return entries, err
	}
	state, err := l.look(ctx, partition)
	for err == nil && len(entries) < limit && size < unilog.ReadBytes {
		before, last := len(entries), entries[len(entries)-1].Offset
		entries = slices.Grow(entries, min(limit-before, 8*largePage)) // there is more
		// As many as fill the rest, if they are like those before them.
		ask := min(limit-before, largePage, (unilog.ReadBytes-size)*before/size+1)
		if last < state.large {
			entries, err = l.readSized(ctx, entries, partition, last, ask, unilog.ReadBytes-size)
		} else if ask = int(min(int64(ask), state.head.Offset-last)); ask > 0 {
			entries, err = l.readPage(ctx, entries, partition, last, ask, 0)
		}
		if len(entries) == before {
			break
		}
		entries = upToBytes(entries, before, &size)
	}
	return entries, nil // if there is an error, the next read meets it again
}

// upToBytes adds the sizes of the entries from an index on to size, and cuts off what
// is after the one that passes [unilog.ReadBytes].
func upToBytes(entries []unilog.Entry, from int, size *int) []unilog.Entry {
	for i := from; i < len(entries); i++ {
		if *size += entries[i].Size(); *size >= unilog.ReadBytes {
			clear(entries[i+1:])
			return entries[:i+1]
		}
	}
	return entries
}

// readPage appends the entries of one page.
func (l *Log) readPage(ctx context.Context, entries []unilog.Entry, partition int, after int64, limit int, wait time.Duration) ([]unilog.Entry, error) {
	stream := l.streamKey(partition)
	id := strconv.FormatInt(after, 10) + "-0"
	var cmd rueidis.Completed
	if wait > 0 {
		ms := max(1, wait.Milliseconds()) // 0 would wait for ever
		cmd = l.client.B().Xread().Count(int64(limit)).Block(ms).Streams().Key(stream).Id(id).Build()
	} else {
		cmd = l.client.B().Xread().Count(int64(limit)).Streams().Key(stream).Id(id).Build()
	}
	reply, err := l.client.Do(ctx, cmd).ToMessage()
	l.lines.heard(err)
	if rueidis.IsRedisNil(err) {
		return entries, nil
	}
	var raw []rueidis.RedisMessage
	if err == nil {
		raw, err = oneStream(&reply)
	}
	if err != nil {
		return entries, fmt.Errorf("redislog: read stream %s: %w", stream, discreet(err))
	}
	return decode(entries, stream, partition, raw)
}

// readSized appends the entries of one page that ends with the entry with which they
// have so many bytes.
func (l *Log) readSized(ctx context.Context, entries []unilog.Entry, partition int, after int64, limit, bytes int) ([]unilog.Entry, error) {
	stream := l.streamKey(partition)
	args := []string{strconv.FormatInt(after, 10) + "-0", strconv.Itoa(limit), strconv.Itoa(bytes)}
	raw, err := readScript.Exec(ctx, l.client, []string{stream}, args).ToArray()
	l.lines.heard(err)
	if err != nil {
		return entries, fmt.Errorf("redislog: read stream %s: %w", stream, discreet(err))
	}
	return decode(entries, stream, partition, raw)
}
