package archive

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Columns are those that [Append] decodes: the offset of the first record, and the
// arrays of what all of them hold.
const Columns = `first_offset, staged_at, action, object, key, data, headers`

var errColumns = errors.New("the columns of unilog's tables have other types than those of its migrations")

// errDamaged is of a batch whose arrays do not fit each other, or lack a value.
var errDamaged = errors.New("a batch of the archive is damaged")

// Append decodes the row that rows stands at, whose columns from one on are [Columns],
// and appends its records to entries. What it returns does not depend on rows.
func Append(entries []unilog.Entry, rows pgx.Rows, from, partition int) ([]unilog.Entry, error) {
	fields, values := rows.FieldDescriptions()[from:], rows.RawValues()[from:]
	for i := range fields[:7] {
		if fields[i].Format != pgx.BinaryFormatCode {
			return appendText(entries, rows, from, partition)
		}
	}
	if len(values[0]) != 8 {
		return nil, errColumns
	}
	first := int64(binary.BigEndian.Uint64(values[0]))
	var columns columns
	for i, v := range values[1:7] {
		var err error
		if columns[i], err = parseArray(v); err != nil {
			return nil, err
		}
		if columns[i].n != columns[0].n {
			return nil, errDamaged
		}
	}
	for n := range columns[0].n {
		entries = append(entries, unilog.Entry{Partition: partition, Offset: first + int64(n)})
		if err := columns.decode(&entries[len(entries)-1]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// appendText is Append on a connection that is set to the simple protocol.
func appendText(entries []unilog.Entry, rows pgx.Rows, from, partition int) ([]unilog.Entry, error) {
	var first int64
	var stagedAt []*time.Time
	var columns [5][]*string
	to := make([]any, from, from+7)
	to = append(to, &first, &stagedAt)
	for i := range columns {
		to = append(to, &columns[i])
	}
	if err := rows.Scan(to...); err != nil {
		return nil, err
	}
	for _, c := range columns {
		if len(c) != len(stagedAt) || slices.Contains(c, nil) {
			return nil, errDamaged
		}
	}
	for n, at := range stagedAt {
		if at == nil {
			return nil, errDamaged
		}
		e := unilog.Entry{Partition: partition, Offset: first + int64(n), StagedAt: at.UTC()}
		e.Action, e.Object, e.Key, e.Data = *columns[0][n], *columns[1][n], *columns[2][n], []byte(*columns[3][n])
		var err error
		if e.Headers, err = unilog.DecodeHeaders([]byte(*columns[4][n])); err != nil {
			return nil, fmt.Errorf("%w: %w", errDamaged, err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// columns are the arrays of a batch: when its records were staged, their actions,
// objects, keys, data and headers.
type columns [6]array

// decode reads what the next record holds.
func (c *columns) decode(e *unilog.Entry) (err error) {
	var values [6][]byte
	for i := range c {
		if values[i], err = c[i].next(); err != nil {
			return err
		}
	}
	if len(values[0]) != 8 {
		return errColumns
	}
	e.StagedAt = timeOf(int64(binary.BigEndian.Uint64(values[0])))
	e.Action, e.Object, e.Key = text(values[1]), text(values[2]), text(values[3])
	e.Data = values[4]
	if e.Headers, err = unilog.DecodeHeaders(values[5]); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// text is what the bytes of an array hold, which nobody changes.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// array is one of Postgres in its binary form, of one dimension, read from the front.
type array struct {
	n    int
	rest []byte
}

// parseArray copies the array: the records that come of it share one piece of memory.
func parseArray(v []byte) (array, error) {
	if len(v) < 12 {
		return array{}, errColumns
	}
	if binary.BigEndian.Uint32(v) == 0 { // it has no dimension, and so no element
		return array{}, nil
	}
	if binary.BigEndian.Uint32(v) != 1 || len(v) < 20 {
		return array{}, errColumns
	}
	return array{n: int(binary.BigEndian.Uint32(v[12:])), rest: append([]byte(nil), v[20:]...)}, nil
}

func (a *array) next() ([]byte, error) {
	if len(a.rest) < 4 {
		return nil, errColumns
	}
	n := int(int32(binary.BigEndian.Uint32(a.rest)))
	if n < 0 { // null
		return nil, errDamaged
	}
	if len(a.rest)-4 < n {
		return nil, errColumns
	}
	v := a.rest[4 : 4+n : 4+n]
	a.rest = a.rest[4+n:]
	return v, nil
}

// timeOf returns the time that Postgres sends as microseconds since 2000; one
// that it calls infinite comes out as the last there is.
func timeOf(us int64) time.Time {
	const y2k = 946_684_800_000_000
	return time.UnixMicro(min(us, math.MaxInt64-y2k) + y2k).UTC()
}
