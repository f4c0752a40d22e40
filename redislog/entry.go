package redislog

import (
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
)

// appendArgs lays entries out for append.lua.
func appendArgs(term unilog.Term, entries []unilog.Entry) ([]string, error) {
	args := make([]string, 0, 3+6*len(entries))
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
		args = append(args, rueidis.BinaryString(e.Data), e.Action, e.Object,
			strconv.FormatInt(e.StagedAt.UnixMicro(), 10), e.Key, rueidis.BinaryString(headers))
	}
	return args, nil
}
