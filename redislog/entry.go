package redislog

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
)

// The fields of a stream's entry.
const (
	fieldData     = "data"
	fieldAction   = "action"
	fieldObject   = "object"
	fieldStagedAt = "staged_at"
	fieldKey      = "key"
	fieldHeaders  = "headers"
	fieldFormat   = "format" // absent in format 1, the only one that there is

	fieldContentType = "content_type"
)

// largeEntry is the size from which on an entry is large: readers ask for many
// entries at once where none is.
const largeEntry = 8 << 10

// appendArgs lays entries out for append.lua.
func appendArgs(term unilog.Term, entries []unilog.Entry) ([]string, error) {
	first, large := entries[0].Offset, ""
	size := 0
	headers := make([]string, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Offset != first+int64(i) || e.Partition != term.Partition {
			return nil, fmt.Errorf("redislog: entries must follow each other in partition %d: offset %d of partition %d comes as number %d after %d",
				term.Partition, e.Offset, e.Partition, i, first)
		}
		text, err := unilog.EncodeHeaders(e.Headers)
		if err != nil {
			return nil, fmt.Errorf("redislog: headers of offset %d: %w", e.Offset, err)
		}
		headers[i] = rueidis.BinaryString(text)
		n := e.Size()
		if size += n + 60; n >= largeEntry {
			large = strconv.FormatInt(e.Offset, 10)
		}
	}
	return []string{
		term.LogID, strconv.FormatInt(term.Epoch, 10), strconv.FormatInt(first, 10), large,
		rueidis.BinaryString(packRuns(make([]byte, 0, size+256), entries, headers)),
	}, nil
}

// packRuns appends entries in MessagePack, which a script reads faster than
// arguments: a list of runs of entries with the same action, object and content type and
// the same fields. A run is a list of these four, the last one as "", "key", "headers"
// or "both", and of each entry's id, payload, staged_at and, if it has them, key and
// headers.
func packRuns(b []byte, entries []unilog.Entry, headers []string) []byte {
	has := func(i int) (fields string, size int) {
		switch key := entries[i].Key != ""; {
		case key && headers[i] != "":
			return "both", 5
		case key:
			return fieldKey, 4
		case headers[i] != "":
			return fieldHeaders, 4
		}
		return "", 3
	}
	list := len(b)
	b = packList(b, 0)
	runs := 0
	for i := 0; i < len(entries); runs++ {
		e, start := &entries[i], len(b)
		fields, size := has(i)
		b = packList(b, 0)
		b = packText(packText(packText(packText(b, e.Action), e.Object), e.ContentType), fields)
		first := i
		for ; i < len(entries); i++ {
			next := &entries[i]
			if more, _ := has(i); more != fields || next.Action != e.Action || next.Object != e.Object || next.ContentType != e.ContentType {
				break
			}
			b = packNumber(b, next.Offset, "-0")
			b = packText(b, rueidis.BinaryString(next.Payload()))
			b = packNumber(b, next.StagedAt.UnixMicro(), "")
			if next.Key != "" {
				b = packText(b, next.Key)
			}
			if headers[i] != "" {
				b = packText(b, headers[i])
			}
		}
		packList(b[:start], 4+size*(i-first))
	}
	packList(b[:list], runs)
	return b
}

// packList appends the head of a list with so many members.
func packList(b []byte, members int) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(members))
}

func packText(b []byte, text string) []byte {
	return append(packHead(b, len(text)), text...)
}

// packNumber appends a number as text, since a script would round a large one, and
// what follows it.
func packNumber(b []byte, n int64, suffix string) []byte {
	var space [22]byte
	text := append(strconv.AppendInt(space[:0], n, 10), suffix...)
	return append(packHead(b, len(text)), text...)
}

// packHead appends the head of a text with so many bytes.
func packHead(b []byte, size int) []byte {
	if size < 1<<8 {
		return append(b, 0xd9, byte(size))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(size))
}
