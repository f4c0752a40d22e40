package unilog

import (
	"errors"
	"fmt"
)

// ErrStandby is returned by a streamer's RunOnce while another streamer leads, or numbers.
var ErrStandby = errors.New("unilog: another streamer leads")

// ErrPooled is why a streamer refuses to run behind a pooler in transaction mode, which
// would give its session to others, and with it its locks and settings.
var ErrPooled = errors.New("unilog: a pooler (pgbouncer or the like) in transaction mode is between the streamer and Postgres, and would give its session to others: connect streamers to Postgres itself, or use pool_mode = session")

// ErrSimulated is what a simulated failure returns from a hook. Whoever sees it
// goes on as if after a crash.
var ErrSimulated = errors.New("unilog: simulated failure")

// ErrDeliverersName is why a consumer leaves a checkpoint alone: records that a
// deliverer has sent elsewhere would be missing in the consumer's state.
var ErrDeliverersName = errors.New("unilog: this is the name of a deliverer, which keeps its checkpoint in the same database: give the consumer another name")

// ErrTransactionSpoiled is why a consumer halts whose handler has ended its transaction,
// or has hidden that a statement of it failed. What the handler then does is no longer
// saved together with the checkpoint, or not at all.
var ErrTransactionSpoiled = errors.New("unilog: the handler must leave its transaction to the consumer: it has ended it, by a commit or a rollback, or has ignored that a statement failed: mend it")

// ErrCheckpointGone is why a consumer does not begin anew when its checkpoint is no longer
// there while it runs: its state would get everything a second time.
var ErrCheckpointGone = errors.New("unilog: the consumer's checkpoint is no longer there: was the table checkpoints emptied? Restore it along with the consumer's state; or, to begin anew, empty that state, too, and start the consumer again")

// LogError says that a call to the log failed, as the log tells it.
type LogError struct {
	// Call is what was asked of it.
	Call string
	Err  error
}

func (e *LogError) Error() string { return e.Call + ": " + e.Err.Error() }

func (e *LogError) Unwrap() error { return e.Err }

// FencedError says that a later epoch has taken over: its receiver no longer
// leads.
type FencedError struct {
	Partition    int
	Epoch, Newer int64
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("unilog: partition %d: epoch %d is over, epoch %d leads", e.Partition, e.Epoch, e.Newer)
}

// ForeignLogError says that the log belongs to a different database.
type ForeignLogError struct {
	// Consumer is the consumer whose checkpoint belongs to log LogID. It is empty if
	// LogID is the log of the streamer's, or of a deliverer's archive.
	Consumer      string
	Partition     int
	LogID, Theirs string
}

func (e *ForeignLogError) Error() string {
	if e.Consumer != "" {
		return fmt.Sprintf("unilog: consumer %s meets the logs of two databases in partition %d (its log_id is %s, and now it reads %s): "+
			"give it the log and the archive that it has read so far, or another name; "+
			"or, if the new log has the same records up to its checkpoint, set log_id to null in its rows of checkpoints",
			e.Consumer, e.Partition, e.LogID, e.Theirs)
	}
	return fmt.Sprintf("unilog: the log of partition %d belongs to another database (its log_id is %s, this database's is %s): "+
		"give each database a stream name of its own, or, if this database replaces that one, delete the stream and its leader key",
		e.Partition, e.Theirs, e.LogID)
}

// LogSettingError says that a setting of the log's server lets it drop entries
// that nobody has trimmed. They would be published again and again.
type LogSettingError struct {
	Partition            int
	Setting, Value, Want string
}

func (e *LogSettingError) Error() string {
	return fmt.Sprintf("unilog: the log of partition %d may be dropped by its server to make room: %s is %s: set it to %s, there and in its configuration file",
		e.Partition, e.Setting, e.Value, e.Want)
}

// SequenceSettingError says that the ids of staged records are in no order, so that
// records would be numbered in another order than they were committed in, or late.
type SequenceSettingError struct {
	Found, Change string
}

func (e *SequenceSettingError) Error() string {
	return fmt.Sprintf("unilog: the ids of staged records are in no order: %s: %s; what is staged waits until then", e.Found, e.Change)
}

// DivergedError says that the log holds another record at an offset than its
// database, as after the loss of commits that the log had already got: an
// asynchronous standby was promoted, or two copies of a database write to one
// log.
type DivergedError struct {
	Partition int
	Offset    int64
}

func (e *DivergedError) Error() string {
	return fmt.Sprintf("unilog: the log of partition %d holds another record at offset %d than its database: has the database lost commits, or is it a copy? "+
		"Restore what consumers have applied to the database's state, then delete the stream: it is published again from the database",
		e.Partition, e.Offset)
}

// CheckpointAheadError says that a consumer has applied offsets that the
// source's database has never given: one of them was restored to an earlier
// time without the other. Where the archive is another database than the consumer's,
// the log has to lack them, too: see [ArchiveLagsError].
type CheckpointAheadError struct {
	Consumer             string
	Partition            int
	Checkpoint, Database int64
}

func (e *CheckpointAheadError) Error() string {
	return fmt.Sprintf("unilog: the checkpoint of consumer %s in partition %d is %d but its source is only at %d: "+
		"restore the consumer's state and checkpoint to the time that the source was restored to",
		e.Consumer, e.Partition, e.Checkpoint, e.Database)
}

// ArchiveLagsError says that the archive that a consumer was given, a standby or another
// copy of the source, has not got yet what the consumer needs to see there. It is waited
// for. What tells it from a [CheckpointAheadError] is that the log itself has the offset,
// under the id of the consumer's log.
type ArchiveLagsError struct {
	Consumer  string
	Partition int
	// Offset is the one that is needed, and Archive the last one that is there.
	Offset, Archive int64
	// ReadOnly says that the archive takes no writes: it is a standby, or the old primary
	// of a switchover. It is connected to anew, since its address may lead to another
	// server by now.
	ReadOnly bool
}

func (e *ArchiveLagsError) Error() string {
	way := ". If it is no standby that lags but was restored to an earlier time, restore the consumer's state and checkpoint to that time, too"
	if e.ReadOnly {
		way = ", or its address leads to a server that has it"
	}
	return fmt.Sprintf("unilog: the archive of consumer %s is at offset %d of partition %d and the log has offset %d, which the archive lacks: waiting until it has that%s",
		e.Consumer, e.Archive, e.Partition, e.Offset, way)
}

// LogAheadError says that the log holds records that the database has never
// numbered, as after a restore of the database to an earlier time, or after
// somebody else has written to the log. Going on would give the same offsets to
// other records.
type LogAheadError struct {
	Partition     int
	Log, Database int64
}

func (e *LogAheadError) Error() string {
	return fmt.Sprintf("unilog: the log of partition %d is at offset %d but its database only at %d: was the database restored to an earlier time, or has somebody else written to the log? "+
		"If restored, stop the consumers and restore those in other databases to the same time or before; "+
		"then delete the stream and start all again: it is published again from the database",
		e.Partition, e.Log, e.Database)
}

// GapError says that records which a consumer has not applied can no longer be
// had. Going on would lose them.
type GapError struct {
	Consumer  string
	Partition int
	// From and To are the first and last of the missing offsets.
	From, To int64
	// Archive says whether the archive was asked.
	Archive bool
	// Damaged says that the archive has records before them: a row of it was deleted, or
	// is damaged.
	Damaged bool
}

func (e *GapError) Error() string {
	why := "the log no longer holds them, and this consumer has no access to the archive: give it the source's database as its archive"
	passOver := fmt.Sprintf("to go on without them, correct its state and say `unilog consumers seek %s --partition %d --offset %d`", e.Consumer, e.Partition, e.To+1)
	switch {
	case e.Damaged:
		why = "the log no longer holds them, and the archive has lost them, or they are damaged there: put that row of its table batches back; or, " + passOver
	case e.Archive:
		why = "neither the log nor the archive holds them any more: retention was shorter than this consumer's absence, or it is new: bootstrap it; or, " + passOver
	}
	return fmt.Sprintf("unilog: consumer %s cannot have offsets %d to %d of partition %d: %s", e.Consumer, e.From, e.To, e.Partition, why)
}

// RejectedError says that a handler rejected an entry, by an error or a panic,
// and that the consumer was told to halt there. The entries before it are
// applied and saved.
type RejectedError struct {
	Consumer  string
	Partition int
	Offset    int64
	Err       error
}

func (e *RejectedError) Error() string {
	return fmt.Sprintf("unilog: consumer %s halts at offset %d of partition %d: its handler rejected the record: %v", e.Consumer, e.Offset, e.Partition, e.Err)
}

func (e *RejectedError) Unwrap() error { return e.Err }
