package archive

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Collect reads rows of offset, staged_at, action, object, key, data,
// headers and the id of the staged row, of which it returns the last one.
func Collect(rows pgx.Rows, partition int) (entries []unilog.Entry, id int64, err error) {
	defer rows.Close()
	var memory arena
	for rows.Next() {
		entries = append(entries, unilog.Entry{Partition: partition})
		e := &entries[len(entries)-1]
		before := e
		if len(entries) > 1 {
			before = &entries[len(entries)-2]
		}
		if id, err = scanEntry(rows, e, before, &memory); err != nil {
			return nil, 0, err
		}
	}
	return entries, id, rows.Err()
}

// scanEntry reads a row by hand: this runs for every record, and Scan allocates
// for each column. What repeats the entry before is not stored twice.
func scanEntry(rows pgx.Rows, e, before *unilog.Entry, memory *arena) (id int64, err error) {
	fields, v := rows.FieldDescriptions(), rows.RawValues()
	var headers []byte
	if fields[0].Format == pgx.BinaryFormatCode && fields[1].Format == pgx.BinaryFormatCode && fields[7].Format == pgx.BinaryFormatCode {
		if len(v[0]) != 8 || len(v[1]) != 8 || len(v[7]) != 8 {
			return 0, errors.New("the columns of the log's tables have other types than those of its migrations")
		}
		e.Offset, id = int64(binary.BigEndian.Uint64(v[0])), int64(binary.BigEndian.Uint64(v[7]))
		e.StagedAt = timeOf(int64(binary.BigEndian.Uint64(v[1])))
		e.Action, e.Object, e.Key = repeated(v[2], before.Action), repeated(v[3], before.Object), string(v[4])
		e.Data, headers = memory.keep(v[5]), v[6]
	} else { // a connection that is set to the simple protocol
		var data []byte
		if err := rows.Scan(&e.Offset, &e.StagedAt, &e.Action, &e.Object, &e.Key, &data, &headers, &id); err != nil {
			return 0, err
		}
		e.Data, e.StagedAt = data, e.StagedAt.UTC()
	}
	e.Headers, err = unilog.DecodeHeaders(headers)
	return id, err
}

// timeOf returns the time that Postgres sends as microseconds since 2000; one
// that it calls infinite comes out as the last there is.
func timeOf(us int64) time.Time {
	const y2k = 946_684_800_000_000
	return time.UnixMicro(min(us, math.MaxInt64-y2k) + y2k).UTC()
}

func repeated(text []byte, before string) string {
	if string(text) == before {
		return before
	}
	return string(text)
}

// arena keeps many small texts in few allocations.
type arena []byte

func (a *arena) keep(text []byte) []byte {
	const chunk = 64 << 10
	if len(text) > cap(*a)-len(*a) {
		*a = make([]byte, 0, max(chunk, len(text)))
	}
	n := len(*a)
	*a = append(*a, text...)
	return (*a)[n:len(*a):len(*a)]
}
