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
// arrays of what all of them hold. The last two are null where no record has a body.
const Columns = `first_offset, staged_at, action, object, key, data, headers, body, content_type`

var errColumns = errors.New("the columns of unilog's tables have other types than those of its migrations")

// errDamaged is of a batch whose arrays do not fit each other, or lack a value.
var errDamaged = errors.New("a batch of the archive is damaged")

// Append decodes the row that rows stands at, whose columns from one on are [Columns],
// and appends its records to entries. What it returns does not depend on rows.
func Append(entries []unilog.Entry, rows pgx.Rows, from, partition int) ([]unilog.Entry, error) {
	fields, values := rows.FieldDescriptions()[from:], rows.RawValues()[from:]
	for i := range fields[:9] {
		if fields[i].Format != pgx.BinaryFormatCode {
			return appendText(entries, rows, from, partition)
		}
	}
	if len(values[0]) != 8 {
		return nil, errColumns
	}
	first := int64(binary.BigEndian.Uint64(values[0]))
	arrays := make(columns, 8)
	if values[7] == nil && values[8] == nil {
		arrays = arrays[:6]
	}
	for i := range arrays {
		var err error
		if arrays[i], err = parseArray(values[1+i]); err != nil {
			return nil, err
		}
		if arrays[i].n != arrays[0].n {
			return nil, errDamaged
		}
	}
	for n := range arrays[0].n {
		entries = append(entries, unilog.Entry{Partition: partition, Offset: first + int64(n)})
		if err := arrays.decode(&entries[len(entries)-1]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// appendText is Append on a connection that is set to the simple protocol.
func appendText(entries []unilog.Entry, rows pgx.Rows, from, partition int) ([]unilog.Entry, error) {
	var first int64
	var stagedAt []*time.Time
	var texts [5][]*string // action, object, key, data, headers
	var bodies [][]byte
	var types []*string
	to := append(make([]any, from, from+9), &first, &stagedAt)
	for i := range texts {
		to = append(to, &texts[i])
	}
	if err := rows.Scan(append(to, &bodies, &types)...); err != nil {
		return nil, err
	}
	if bodies == nil && types == nil {
		bodies, types = make([][]byte, len(stagedAt)), make([]*string, len(stagedAt))
	}
	lengths := []int{len(bodies), len(types)}
	for _, c := range texts {
		lengths = append(lengths, len(c))
	}
	if slices.ContainsFunc(lengths, func(n int) bool { return n != len(stagedAt) }) {
		return nil, errDamaged
	}
	for n, at := range stagedAt {
		action, object, key, data, headers := texts[0][n], texts[1][n], texts[2][n], texts[3][n], texts[4][n]
		if at == nil || action == nil || object == nil || key == nil || headers == nil {
			return nil, errDamaged
		}
		e := unilog.Entry{Partition: partition, Offset: first + int64(n), StagedAt: at.UTC()}
		e.Action, e.Object, e.Key = *action, *object, *key
		if err := setHeaders(&e, []byte(*headers)); err != nil {
			return nil, err
		}
		if err := setPayload(&e, bytesOf(data), bodies[n], bytesOf(types[n])); err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// bytesOf is nil for null, and only then.
func bytesOf(text *string) []byte {
	if text == nil {
		return nil
	}
	return append([]byte{}, *text...)
}

// setPayload takes data, or a body of a content type. What is nil is null.
func setPayload(e *unilog.Entry, data, body, contentType []byte) error {
	isBody := contentType != nil
	if (body != nil) != isBody || (data == nil) != isBody || isBody && len(contentType) == 0 {
		return errDamaged
	}
	if isBody {
		data = body
	}
	e.SetPayload(data, text(contentType))
	return nil
}

func setHeaders(e *unilog.Entry, text []byte) (err error) {
	if e.Headers, err = unilog.DecodeHeaders(text); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

// columns are the arrays of a batch: when its records were staged, their actions,
// objects, keys, data and headers; and, if any has one, bodies and content types.
type columns []array

// decode reads what the next record holds.
func (c columns) decode(e *unilog.Entry) (err error) {
	var values [8][]byte // nil where null
	for i := range c {
		if values[i], err = c[i].next(); err != nil {
			return err
		}
	}
	if values[0] == nil || values[1] == nil || values[2] == nil || values[3] == nil || values[5] == nil {
		return errDamaged
	}
	if len(values[0]) != 8 {
		return errColumns
	}
	e.StagedAt = timeOf(int64(binary.BigEndian.Uint64(values[0])))
	e.Action, e.Object, e.Key = text(values[1]), text(values[2]), text(values[3])
	if err := setHeaders(e, values[5]); err != nil {
		return err
	}
	return setPayload(e, values[4], values[6], values[7])
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
	if v == nil { // null, as only one of two bodies' columns
		return array{}, errDamaged
	}
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

// next returns nil for null, and only then.
func (a *array) next() ([]byte, error) {
	if len(a.rest) < 4 {
		return nil, errColumns
	}
	n := int(int32(binary.BigEndian.Uint32(a.rest)))
	if n < 0 {
		a.rest = a.rest[4:]
		return nil, nil
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
