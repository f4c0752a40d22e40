package redislog

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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
)

// appendArgs lays entries out for append.lua. Each field costs Redis time, so
// the optional ones are left out where they are empty.
func appendArgs(term unilog.Term, entries []unilog.Entry) ([]string, error) {
	args := make([]string, 0, 3+13*len(entries))
	args = append(args, term.LogID, strconv.FormatInt(term.Epoch, 10), strconv.FormatInt(entries[0].Offset, 10))
	for i := range entries {
		e := &entries[i]
		if e.Offset != entries[0].Offset+int64(i) || e.Partition != term.Partition {
			return nil, fmt.Errorf("redislog: entries must follow each other in partition %d: offset %d of partition %d comes as number %d after %d",
				term.Partition, e.Offset, e.Partition, i, entries[0].Offset)
		}
		headers, err := unilog.EncodeHeaders(e.Headers)
		if err != nil {
			return nil, fmt.Errorf("redislog: headers of offset %d: %w", e.Offset, err)
		}
		n := 8
		if e.Key != "" {
			n += 2
		}
		if headers != nil {
			n += 2
		}
		args = append(args, strconv.Itoa(n),
			fieldData, string(e.Data),
			fieldAction, e.Action,
			fieldObject, e.Object,
			fieldStagedAt, strconv.FormatInt(e.StagedAt.UnixMicro(), 10))
		if e.Key != "" {
			args = append(args, fieldKey, e.Key)
		}
		if headers != nil {
			args = append(args, fieldHeaders, string(headers))
		}
	}
	return args, nil
}

func decode(stream string, partition int, raw []rueidis.XRangeSlice) ([]unilog.Entry, error) {
	entries := make([]unilog.Entry, len(raw))
	for i := range raw {
		e := &entries[i]
		e.Partition = partition
		if err := decodeEntry(e, &raw[i]); err != nil {
			// What came before it can be used.
			if i > 0 {
				return entries[:i], nil
			}
			return nil, fmt.Errorf("redislog: entry %s of stream %s was not written by unilog: %w", raw[i].ID, stream, err)
		}
	}
	return entries, nil
}

func decodeEntry(e *unilog.Entry, raw *rueidis.XRangeSlice) error {
	text, ok := strings.CutSuffix(raw.ID, "-0")
	offset, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return errors.New("its id is not an offset and -0")
	}
	e.Offset = offset
	for _, f := range raw.FieldValues {
		switch f.Field {
		case fieldData:
			e.Data = []byte(f.Value)
		case fieldAction:
			e.Action = f.Value
		case fieldObject:
			e.Object = f.Value
		case fieldKey:
			e.Key = f.Value
		case fieldStagedAt:
			us, err := strconv.ParseInt(f.Value, 10, 64)
			if err != nil {
				return fmt.Errorf("staged_at: %w", err)
			}
			e.StagedAt = time.UnixMicro(us).UTC()
		case fieldHeaders:
			if e.Headers, err = unilog.DecodeHeaders([]byte(f.Value)); err != nil {
				return err
			}
		}
	}
	if e.Data == nil || e.Action == "" || e.Object == "" {
		return errors.New("it lacks data, action or object")
	}
	return nil
}
