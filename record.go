package unilog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxRecordBytes is the most that one [Record] may hold: the bytes of all its
// fields together, its numbers counted as they are written out in full.
const MaxRecordBytes = 1 << 20

// MaxStoredBytes is the most that a record takes as Postgres stores it, whoever
// staged it: JSON has a space after each comma and colon there, and other writers
// know no [MaxRecordBytes]. The staging table refuses more. A [Log] carries this much,
// and twice as much of headers whose text it escapes once more.
const MaxStoredBytes = 2 * MaxRecordBytes

// MaxContentTypeBytes is how long a [Record]'s ContentType may be.
const MaxContentTypeBytes = 255

// ReservedObject is the object of entries that the log itself makes. No writer may
// stage a record of it.
const ReservedObject = "unilog"

// Record is what a writer stages: something that happened, in the words of the
// application.
type Record struct {
	// Action is what happened: "create". Required.
	Action string
	// Object is the kind of thing it happened to: "ride". Required, and not "unilog".
	Object string
	// Key names the thing itself. Optional. Records of one key stay in order
	// however many partitions the log has.
	Key string
	// Data is a JSON document. Postgres keeps it as jsonb: numbers keep every
	// digit, while white space, the order of members and all but the last of
	// members with the same name are not kept. Required, unless there is a Body.
	Data json.RawMessage
	// Body is any bytes, which are kept as they are, in the place of Data: a message of
	// Protobuf or Avro, or a document whose every byte counts. With a ContentType, an
	// empty Body is a body, too.
	Body []byte
	// ContentType says what Body is: "application/x-protobuf". It is what HTTP calls a
	// media type, in up to [MaxContentTypeBytes] characters of printable ASCII. Required
	// with Body, and refused with Data. So who reads a record looks at it first: where it
	// is empty, the record has Data.
	ContentType string
	// Headers travel with the record beside its data. Optional.
	Headers map[string]string
}

// Entry is a record with its place in the log. It never changes once it has
// been numbered.
type Entry struct {
	Record

	// Partition is the partition that the entry belongs to, from 0.
	Partition int
	// Offset is the entry's place in its partition: 1, 2, 3, … with no gaps.
	Offset int64
	// StagedAt is the time at which the record was staged, by the clock of the
	// database, to the microsecond.
	StagedAt time.Time
	// Position is the log's own address of the entry, where the log needs one
	// to go on reading after it; empty where the offset says it.
	Position string
}

// Cursor is the place after the entry.
func (e *Entry) Cursor() Cursor { return Cursor{Offset: e.Offset, Position: e.Position} }

// Payload is what the record says, in bytes: its Body if it has a ContentType, else its
// Data. A log has it as it is.
func (r *Record) Payload() []byte {
	if r.ContentType != "" {
		return r.Body
	}
	return r.Data
}

// SetPayload gives the record what a log has of it, in the place of what it had: JSON
// where the content type is empty, else a body, which is then not nil.
func (r *Record) SetPayload(payload []byte, contentType string) {
	r.Data, r.Body, r.ContentType = nil, nil, contentType
	switch {
	case contentType == "":
		r.Data = payload
	case payload == nil:
		r.Body = []byte{}
	default:
		r.Body = payload
	}
}

// Size is how many bytes the fields of the record take together.
func (r *Record) Size() int {
	n := len(r.Action) + len(r.Object) + len(r.Key) + len(r.Data) + len(r.Body) + len(r.ContentType)
	for name, value := range r.Headers {
		n += len(name) + len(value)
	}
	return n
}

// PartitionOf returns the partition of a key that is not empty, in a log of so many
// active partitions: the first four bytes of the key's SHA-256, the most
// significant first, modulo their number. A record without a key goes by the id of
// its staged row, modulo the same.
func PartitionOf(key string, partitions int) int {
	hash := sha256.Sum256([]byte(key))
	return int(binary.BigEndian.Uint32(hash[:]) % uint32(partitions))
}

// Why a record cannot be staged. A [RecordError] wraps one of them.
var (
	ErrEmpty       = errors.New("must not be empty")
	ErrReserved    = errors.New(`must not be "unilog", which marks entries of the log's own`)
	ErrTooLarge    = fmt.Errorf("takes the record over the limit of %d bytes", MaxRecordBytes)
	ErrInvalidText = errors.New("must be valid UTF-8 without NUL characters")
	ErrInvalidJSON = errors.New("must be valid JSON")
	// ErrUnstorableJSON is JSON that Postgres cannot hold: \u0000, half a
	// surrogate pair, a number beyond its range, or deeper nesting than its
	// parser takes.
	ErrUnstorableJSON = errors.New("must be JSON that Postgres can hold")
	// ErrTwoPayloads is of a record with Data and with Body or ContentType. JSON with a
	// content type of its own is a Body.
	ErrTwoPayloads        = errors.New("must not be there beside Data: a record has Data, or Body and ContentType")
	ErrInvalidContentType = fmt.Errorf("must be at most %d characters of printable ASCII", MaxContentTypeBytes)
)

// RecordError says which record, and which field of it, cannot be staged.
type RecordError struct {
	// Index is the record's place among those given to [Stage], from 0.
	Index int
	// Field is the field's name: "Action", "Object", "Key", "Data", "Body",
	// "ContentType", "Headers".
	Field string
	// Err is one of the reasons above.
	Err error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("unilog: record %d: %s %v", e.Index, e.Field, e.Err)
}

func (e *RecordError) Unwrap() error { return e.Err }

// check returns the record's headers as JSON, "" if it has none, or what is wrong with the record.
func (r *Record) check() (headers string, _ *RecordError) {
	size := 0
	for _, f := range []struct{ name, value string }{{"Action", r.Action}, {"Object", r.Object}, {"Key", r.Key}} {
		if f.value == "" && f.name != "Key" {
			return "", &RecordError{Field: f.name, Err: ErrEmpty}
		}
		if !StorableText(f.value) {
			return "", &RecordError{Field: f.name, Err: ErrInvalidText}
		}
		if f.name == "Object" && f.value == ReservedObject {
			return "", &RecordError{Field: f.name, Err: ErrReserved}
		}
		if size += len(f.value); size > MaxRecordBytes {
			return "", &RecordError{Field: f.name, Err: ErrTooLarge}
		}
	}
	size, err := r.checkPayload(size)
	if err != nil {
		return "", err
	}
	for name, value := range r.Headers {
		if !StorableText(name) || !StorableText(value) {
			return "", &RecordError{Field: "Headers", Err: ErrInvalidText}
		}
	}
	text, jsonErr := EncodeHeaders(r.Headers)
	if jsonErr != nil {
		return "", &RecordError{Field: "Headers", Err: ErrInvalidText}
	}
	if size+len(text) > MaxRecordBytes {
		return "", &RecordError{Field: "Headers", Err: ErrTooLarge}
	}
	return string(text), nil
}

// checkPayload adds the payload's size to that of other fields, or says what is wrong with
// the payload.
func (r *Record) checkPayload(size int) (int, *RecordError) {
	if len(r.Body) == 0 && r.ContentType == "" {
		n, err := storedJSONSize(r.Data)
		if size += n; err == nil && size > MaxRecordBytes {
			err = ErrTooLarge
		}
		if err != nil {
			return 0, &RecordError{Field: "Data", Err: err}
		}
		return size, nil
	}
	field := "ContentType"
	if len(r.Body) > 0 {
		field = "Body"
	}
	switch size += len(r.Body) + len(r.ContentType); {
	case len(r.Data) > 0:
		return 0, &RecordError{Field: field, Err: ErrTwoPayloads}
	case r.ContentType == "":
		return 0, &RecordError{Field: "ContentType", Err: ErrEmpty}
	case !isContentType(r.ContentType):
		return 0, &RecordError{Field: "ContentType", Err: ErrInvalidContentType}
	case size > MaxRecordBytes:
		return 0, &RecordError{Field: field, Err: ErrTooLarge}
	}
	return size, nil
}

func isContentType(s string) bool {
	return len(s) <= MaxContentTypeBytes && strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

// StorableText says whether Postgres can hold s as text.
func StorableText(s string) bool {
	return utf8.ValidString(s) && !strings.Contains(s, "\x00")
}
