package kafkalog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
)

// The headers of the topic's records. All have the first four.
const (
	headerOffset     = "offset"
	headerLogID      = "log_id"
	headerEpoch      = "epoch"
	headerPartitions = "partitions"
	headerAction     = "action"
	headerObject     = "object"
	headerStagedAt   = "staged_at"
	headerHeaders    = "headers"
	headerType       = "content_type"
	headerMarker     = "marker"
	headerFormat     = "format" // absent in format 1, the only one that there is
)

// What a marker can be.
const (
	markerClaim = "claim"
	markerReset = "reset"
)

// common returns the headers that all records of a head's writer have, with
// room for n more. The first, the offset, is still to be set.
func common(head unilog.Head, n int) []kgo.RecordHeader {
	headers := make([]kgo.RecordHeader, 4, 4+n)
	headers[0].Key = headerOffset
	headers[1] = header(headerLogID, head.LogID)
	headers[2] = header(headerEpoch, strconv.FormatInt(head.Epoch, 10))
	headers[3] = header(headerPartitions, strconv.Itoa(head.Partitions))
	return headers
}

func header(name, value string) kgo.RecordHeader {
	return kgo.RecordHeader{Key: name, Value: []byte(value)}
}

// marker makes a record that says what the head is, and is no entry.
func marker(kind string, head unilog.Head) *kgo.Record {
	headers := append(common(head, 1), header(headerMarker, kind))
	headers[0].Value = strconv.AppendInt(nil, head.Offset, 10)
	return &kgo.Record{Headers: headers}
}

// encode makes the records of entries, which must follow each other, without
// the common headers: who writes them is not known yet.
func encode(term unilog.Term, entries []unilog.Entry) ([]*kgo.Record, error) {
	if len(entries) == 0 {
		return nil, errors.New("kafkalog: nothing to append")
	}
	records := make([]*kgo.Record, len(entries))
	for i := range entries {
		e := &entries[i]
		if e.Offset != entries[0].Offset+int64(i) || e.Partition != term.Partition {
			return nil, fmt.Errorf("kafkalog: entries must follow each other in partition %d: offset %d of partition %d comes as number %d after %d",
				term.Partition, e.Offset, e.Partition, i, entries[0].Offset)
		}
		headers := make([]kgo.RecordHeader, 4, 8)
		headers = append(headers, header(headerAction, e.Action), header(headerObject, e.Object),
			kgo.RecordHeader{Key: headerStagedAt, Value: strconv.AppendInt(nil, e.StagedAt.UnixMicro(), 10)})
		text, err := unilog.EncodeHeaders(e.Headers)
		if err != nil {
			return nil, fmt.Errorf("kafkalog: headers of offset %d: %w", e.Offset, err)
		}
		if len(text) > 0 {
			headers = append(headers, kgo.RecordHeader{Key: headerHeaders, Value: text})
		}
		if e.ContentType != "" {
			headers = append(headers, header(headerType, e.ContentType))
		}
		value := e.Payload()
		if value == nil {
			value = []byte{} // null would delete the key, where a topic is compacted
		}
		records[i] = &kgo.Record{Value: value, Headers: headers}
		if e.Key != "" {
			records[i].Key = []byte(e.Key)
		}
	}
	return records, nil
}

// sign sets the common headers of records, whose first has an offset. It makes
// new records: a client keeps those that it was given.
func sign(records []*kgo.Record, offset int64, head unilog.Head) []*kgo.Record {
	shared := common(head, 0)
	signed := make([]*kgo.Record, len(records))
	for i, r := range records {
		headers := append([]kgo.RecordHeader(nil), r.Headers...)
		copy(headers, shared)
		headers[0].Value = strconv.AppendInt(nil, offset+int64(i), 10)
		signed[i] = &kgo.Record{Key: r.Key, Value: r.Value, Headers: headers}
	}
	return signed
}

// same says whether two records are of the same entry, whoever wrote them.
func same(a, b *kgo.Record) bool {
	if len(a.Headers) != len(b.Headers) || !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) {
		return false
	}
	for i := 4; i < len(a.Headers); i++ {
		if a.Headers[i].Key != b.Headers[i].Key || !bytes.Equal(a.Headers[i].Value, b.Headers[i].Value) {
			return false
		}
	}
	return true
}

// stranger says that a record is not of this package.
func stranger(r *kgo.Record, err error) error {
	return fmt.Errorf("kafkalog: record %d of partition %d of topic %s was not written by unilog: %w", r.Offset, r.Partition, r.Topic, err)
}

// value returns a header's value, "" if there is none.
func value(r *kgo.Record, name string) string {
	for _, h := range r.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

// number returns a header that every record has.
func number(r *kgo.Record, name string) (int64, error) {
	if err := unilog.CheckFormat(value(r, headerFormat)); err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(value(r, name), 10, 64)
	if err != nil {
		return 0, stranger(r, fmt.Errorf("its header %s is not a number", name))
	}
	return n, nil
}

// headOf returns what a record, which is the partition's last, says of it.
func headOf(r *kgo.Record) (head unilog.Head, err error) {
	if head.Offset, err = number(r, headerOffset); err != nil {
		return head, err
	}
	if head.Epoch, err = number(r, headerEpoch); err != nil {
		return head, err
	}
	partitions, err := number(r, headerPartitions)
	head.Partitions, head.LogID = int(partitions), value(r, headerLogID)
	return head, err
}

// decode returns a record's entry; ok is false for markers.
func decode(r *kgo.Record) (e unilog.Entry, ok bool, err error) {
	if err := unilog.CheckFormat(value(r, headerFormat)); err != nil {
		return e, false, err
	}
	e = unilog.Entry{Partition: int(r.Partition), Position: strconv.FormatInt(r.Offset, 10)}
	e.Key = string(r.Key)
	contentType := ""
	for i := range r.Headers {
		h := &r.Headers[i]
		switch h.Key {
		case headerMarker:
			return e, false, nil
		case headerOffset:
			e.Offset, err = strconv.ParseInt(string(h.Value), 10, 64)
		case headerAction:
			e.Action = string(h.Value)
		case headerObject:
			e.Object = string(h.Value)
		case headerStagedAt:
			var us int64
			us, err = strconv.ParseInt(string(h.Value), 10, 64)
			e.StagedAt = time.UnixMicro(us).UTC()
		case headerHeaders:
			e.Headers, err = unilog.DecodeHeaders(h.Value)
		case headerType:
			contentType = string(h.Value)
		}
		if err != nil {
			return e, false, stranger(r, fmt.Errorf("its header %s: %w", h.Key, err))
		}
	}
	e.SetPayload(r.Value, contentType)
	if e.Offset == 0 || e.Action == "" || e.Object == "" || len(e.Data) == 0 && contentType == "" {
		return e, false, stranger(r, errors.New("it lacks a value, or the header offset, action or object"))
	}
	return e, true, nil
}
