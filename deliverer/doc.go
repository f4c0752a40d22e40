// Package deliverer reads a log and carries each of its records to where no
// transaction reaches: a webhook, a warehouse, another broker.
//
//	log ── read ──▶ entries after the checkpoint
//	archive ┄ gaps ┄▶   │
//	                    ▼
//	                 Delivery ──▶ destination
//	                    │ it has arrived
//	                    ▼
//	                 save the checkpoint
//
// A program makes a [Deliverer] with [New] and calls [Deliverer.Run]. Its checkpoints
// are in Postgres ([PostgresCheckpoints]) or in a file ([FileCheckpoints]).
//
// # Guarantees
//
//   - Each record arrives at least once. After a crash, or an error that leaves open
//     what has arrived, it comes again: a [Delivery] must be idempotent. The log's id,
//     the partition and the offset are a key that names a record for ever.
//   - Within a partition, no record is delivered before the one that precedes it has
//     arrived, and none is passed over.
//   - Records of a key stay in order when the number of partitions changes.
//   - Nothing is delivered from a log whose owner is not known, or that is not the one
//     that the checkpoint belongs to: what is delivered cannot be taken back.
//
// # Several processes
//
// Run one process of a name. With [PostgresCheckpoints] a second one can take over
// from it: neither passes over a record, but while both run they deliver the same
// records. A file of checkpoints is locked by the process that has it open.
// Deliverers of different names know nothing of each other.
//
// # What stops it
//
// [Deliverer.Run] goes on through the loss of the destination, of the log and of the
// checkpoints' database. It returns an error only where a person must decide: a
// [unilog.RejectedError], a [unilog.GapError], a [unilog.CheckpointAheadError], a
// [ForeignCheckpointError], a [unilog.ForeignLogError] or a [unilog.FormatError]. Each says
// what to do.
package deliverer
