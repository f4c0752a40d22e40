package unilog

import (
	"context"
	"errors"
	"time"
)

// Log is where readers find the records in their order: one ordered sequence
// of entries per partition. Implementations are safe for concurrent use.
//
// A Log need not be durable. Whatever it loses is published again from the
// archive, with the same offsets.
type Log interface {
	// Head returns how far the partition's log goes, and who wrote it last.
	// A log that holds nothing, and never did, has the zero Head. It returns a
	// [FormatError] if a newer version has written the log; so does Claim.
	Head(ctx context.Context, partition int) (Head, error)

	// Claim announces a term: from then on, earlier epochs are refused. It returns
	// the offset of the partition's head, or the errors of Append's fencing, or a
	// [LogSettingError] if the log may drop what nobody has trimmed. Claiming a
	// term again changes nothing, but for the number of partitions.
	Claim(ctx context.Context, term Term) (head int64, err error)

	// Append adds entries, whose offsets are consecutive, at the end of the
	// partition's log: all of them or none, and only if the first one's offset
	// is the next one. It returns the log's head as it is afterwards.
	//
	// It returns [ErrAlreadyAppended] if the log holds the first entry already,
	// a [DivergedError] if it holds another one in its place, [ErrBehind] if
	// entries before the first are missing, a [FencedError] if a later epoch has
	// claimed the log, and a [ForeignLogError] if the log belongs to another
	// database, and one that wraps [ErrLogFull] if the log has no room. In these
	// cases nothing was appended. After any other
	// error it is not known whether the entries were appended: calling Append
	// again with the same entries is safe, and tells.
	Append(ctx context.Context, term Term, entries []Entry) (head int64, err error)

	// Reset empties the partition's log and makes head its last offset, so that
	// the next entry is head+1. It returns the errors of Append's fencing.
	Reset(ctx context.Context, term Term, head int64) error

	// Read returns up to limit entries that follow the cursor, in order,
	// waiting for the first one as long as wait says, and fewer if they have about
	// [ReadBytes]. No entries and no error means that there were none within that
	// time. If entries after the cursor were trimmed or lost, what is returned
	// begins later: the reader must compare offsets. An error that wraps
	// [ErrUnreadable] says that the next entry is there and cannot be had from here.
	Read(ctx context.Context, partition int, after Cursor, limit int, wait time.Duration) ([]Entry, error)

	// Trim removes entries up to and including an offset. It may keep some of
	// them for efficiency, and never removes a later one.
	Trim(ctx context.Context, partition int, upTo int64) error
}

// ReadBytes bounds a [Log.Read]: what it returns ends with the entry that passes
// this, and so does about what it holds.
const ReadBytes = 4 << 20

// Head says how far a partition's log goes.
type Head struct {
	// Offset is the last one ever appended, or 0.
	Offset int64 `json:"offset"`
	// LogID and Epoch are those of the last term that claimed it, or zero.
	LogID string `json:"log_id"`
	Epoch int64  `json:"epoch"`
	// Partitions is how many partitions the last claim gave the log, or 0.
	Partitions int `json:"partitions"`
}

// Term is a streamer's time of leadership over a partition: what entitles it
// to write.
type Term struct {
	Partition int
	// Partitions is how many the log has; readers learn it from the log.
	Partitions int
	// LogID names the database's log, for ever.
	LogID string
	// Epoch is higher than any leader's before.
	Epoch int64
}

// Cursor is a place in a log between two entries.
type Cursor struct {
	// Offset is that of the entry before it.
	Offset int64
	// Position is that entry's [Entry.Position].
	Position string
}

// Answers of [Log.Append] that mean that nothing was appended.
var (
	ErrAlreadyAppended = errors.New("unilog: the log holds these entries already")
	ErrBehind          = errors.New("unilog: the log lacks entries before these")
	// ErrLogFull means that the log's server is out of memory. What needs none goes
	// on: Head, Claim, Read, and Trim and Reset, which make room.
	ErrLogFull = errors.New("unilog: the log has no room for more")
)

// ErrUnreadable means that the log's server holds an entry and does not give it to a
// reader, as it may not send that much. The archive has it.
var ErrUnreadable = errors.New("unilog: the log does not give its next entry")
