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

// oneStream returns the entries in a reply to XREAD, which was asked for one stream.
func oneStream(reply *rueidis.RedisMessage) ([]rueidis.RedisMessage, error) {
	if reply.IsMap() {
		streams, err := reply.AsMap()
		for _, entries := range streams {
			return entries.ToArray()
		}
		return nil, err
	}
	// Servers before Redis 6 have pairs in the place of a map.
	streams, err := reply.ToArray()
	if err != nil || len(streams) == 0 {
		return nil, err
	}
	pair, err := streams[0].ToArray()
	if err == nil && len(pair) != 2 {
		err = fmt.Errorf("XREAD answered with %d values instead of 2", len(pair))
	}
	if err != nil {
		return nil, err
	}
	return pair[1].ToArray()
}

// decode appends what the raw entries say. It copies no text: theirs is not
// used for anything else.
func decode(entries []unilog.Entry, stream string, partition int, raw []rueidis.RedisMessage) ([]unilog.Entry, error) {
	for i := range raw {
		e, err := decodeEntry(&raw[i])
		if err != nil {
			// What came before it can be used.
			if len(entries) > 0 {
				return entries, nil
			}
			if errors.As(err, new(*unilog.FormatError)) {
				return nil, err
			}
			return nil, fmt.Errorf("redislog: entry %s of stream %s was not written by unilog: %w", entryID(&raw[i]), stream, err)
		}
		e.Partition = partition
		entries = append(entries, e)
	}
	return entries, nil
}

func decodeEntry(raw *rueidis.RedisMessage) (e unilog.Entry, err error) {
	pair, err := raw.ToArray()
	if err == nil && len(pair) != 2 {
		err = fmt.Errorf("it has %d parts instead of 2", len(pair))
	}
	if err != nil {
		return e, err
	}
	text, ok := strings.CutSuffix(entryID(raw), "-0")
	if e.Offset, err = strconv.ParseInt(text, 10, 64); !ok || err != nil {
		return e, errors.New("its id is not an offset and -0")
	}
	fields, err := pair[1].ToArray()
	if err != nil {
		return e, err
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if err := decodeField(&e, &fields[i], &fields[i+1]); err != nil {
			return e, err
		}
	}
	if e.Data == nil || len(e.Data) == 0 && e.ContentType == "" || e.Action == "" || e.Object == "" {
		return e, errors.New("it lacks data, action or object")
	}
	if e.ContentType != "" {
		e.Body, e.Data = e.Data, nil
	}
	return e, nil
}

func decodeField(e *unilog.Entry, name, value *rueidis.RedisMessage) error {
	field, err := name.ToString()
	if err != nil {
		return err
	}
	text, err := value.ToString()
	if err != nil {
		return err
	}
	switch field {
	case fieldData:
		if e.Data, err = value.AsBytes(); e.Data == nil {
			e.Data = []byte{}
		}
	case fieldContentType:
		e.ContentType = text
	case fieldAction:
		e.Action = text
	case fieldObject:
		e.Object = text
	case fieldKey:
		e.Key = text
	case fieldStagedAt:
		us, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("staged_at: %w", err)
		}
		e.StagedAt = time.UnixMicro(us).UTC()
	case fieldHeaders:
		e.Headers, err = unilog.DecodeHeaders([]byte(text))
	case fieldFormat:
		err = unilog.CheckFormat(text)
	}
	return err
}

// entryID returns an entry's id, "" if it has none.
func entryID(raw *rueidis.RedisMessage) string {
	if pair, err := raw.ToArray(); err == nil && len(pair) > 0 {
		id, _ := pair[0].ToString()
		return id
	}
	return ""
}
