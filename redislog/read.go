package redislog

import (
	"context"
	_ "embed"
	"errors"
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
// have come. So a first page is small. The next ones are as large as is safe: Redis
// is asked how far the log goes and where its last large entry is, and what lies
// between is small. The next read need not ask again.
const (
	firstPage = 8 // of the largest entries, twice unilog.ReadBytes
	largePage = unilog.ReadBytes / largeEntry
	// smallPage is of entries that are small. If they were tiny, and grow to nearly large
	// ones, a page has four times unilog.ReadBytes.
	smallPage = 4 * largePage
)

// small is a stretch of a partition that has no large entry. What an offset has does not
// change, so it stays true.
type small struct {
	after, upTo int64
	average     int // bytes an entry, of those that were read last
}

// holds says whether the entry after an offset is one of the stretch.
func (s small) holds(after int64) bool { return s.after <= after && after < s.upTo }

// page is how many entries after an offset have about so many bytes.
func (s small) page(after int64, bytes int) int {
	return int(min(smallPage, int64(bytes/max(1, s.average)+1), s.upTo-after))
}

// Read implements [unilog.Log] by XREAD, which blocks if wait is positive.
func (l *Log) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	l.mu.Lock()
	known := l.small[partition]
	l.mu.Unlock()
	ask := min(limit, firstPage)
	if known.holds(after.Offset) {
		ask = min(limit, known.page(after.Offset, unilog.ReadBytes))
	}
	entries, err := l.readPage(ctx, nil, partition, after.Offset, ask, wait)
	if ended(err) {
		return l.readOne(ctx, partition, after.Offset, err)
	}
	size := 0
	entries = upToBytes(entries, 0, &size)
	if err != nil || len(entries) < ask {
		return entries, err
	}
	for looked := false; len(entries) < limit && size < unilog.ReadBytes; {
		before, last := len(entries), entries[len(entries)-1].Offset
		if !looked && !known.holds(last) {
			state, err := l.look(ctx, partition)
			if err != nil {
				break // the next read meets it again
			}
			looked, known = true, small{after: state.large, upTo: state.head.Offset}
		}
		known.average = size / before
		if last < known.after {
			ask = min(limit-before, largePage, (unilog.ReadBytes-size)*before/size+1)
			entries, err = l.readSized(ctx, entries, partition, last, ask, unilog.ReadBytes-size)
		} else if ask = min(limit-before, known.page(last, unilog.ReadBytes-size)); ask > 0 {
			entries = slices.Grow(entries, min(limit-before, smallPage))
			entries, err = l.readPage(ctx, entries, partition, last, ask, 0)
		}
		if err != nil || len(entries) == before {
			break
		}
		entries = upToBytes(entries, before, &size)
	}
	l.mu.Lock()
	l.small[partition] = known
	l.mu.Unlock()
	return entries, nil
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
	return l.decode(ctx, entries, partition, raw)
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
	return l.decode(ctx, entries, partition, raw)
}

// decode appends what the raw entries say. What it cannot read may be of a newer format.
func (l *Log) decode(ctx context.Context, entries []unilog.Entry, partition int, raw []rueidis.RedisMessage) ([]unilog.Entry, error) {
	entries, err := decode(entries, l.streamKey(partition), partition, raw)
	if err == nil {
		return entries, nil
	}
	newer := new(unilog.FormatError)
	if _, why := l.look(ctx, partition); errors.As(why, &newer) {
		return nil, newer
	}
	return nil, err
}
