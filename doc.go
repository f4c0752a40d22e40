// Package unilog ends dual writes: it carries records from transactions in
// Postgres to an ordered log that any number of consumers read, so that every
// consumer's state agrees with the database, whatever fails.
//
//	writer ── Stage, in its transaction ──▶ staged_log_records
//	                                             │ number
//	streamer                                log_records ── append ──▶ log
//	                                             ┆ gaps               │ read
//	consumer ◀─ Handler and checkpoint, in one transaction ◀──────────┘
//
// A writer calls [Stage] in the transaction that changes its own tables. A
// [streamer.Streamer] moves the staged records to the log, in order. A [consumer.Consumer] reads
// the log and calls a [consumer.Handler] in the transaction that saves its checkpoint.
// Package redislog is a log in Redis Streams, kafkalog one in Kafka, and pglog the
// database's own archive; switchlog moves from one to another.
//
// # Guarantees
//
//   - A record is in the log if and only if its transaction committed, and
//     exactly once.
//   - If a transaction committed before another began, its records come first.
//     No writer waits for another, and no open transaction holds the log up.
//   - Offsets are 1, 2, 3, … without gaps, and never change. What the log
//     loses, up to all of it, is published again with the same offsets.
//   - Each consumer applies each record once and in order, as long as its
//     handler writes through its transaction alone. It never passes over a
//     record that it cannot have: it stops and says so.
//   - Any process may die at any moment, run twice, or wake up late.
//   - A log may have partitions: offsets and order are then those of a partition,
//     and the records of a key stay in order, also when their number changes.
//   - A [deliverer.Deliverer] carries records to where no transaction reaches: each at least
//     once, in order within a partition, and none is passed over.
//
// All of this is checked by an [audit.Equation], an equation that holds at every instant
// and in the middle of every failure.
//
// # Caveats
//
// Postgres is what must not be lost: a commit that it forgets (fsync or
// synchronous_commit off, an asynchronous standby promoted) is forgotten by the
// log of record too, and a log that remembers it makes the streamer refuse to
// run, with a [LogAheadError].
//
// The streamer keeps a session of Postgres for the advisory lock of each partition
// that it leads, so it needs connections to the server itself or to a pooler in
// session mode.
//
// A copy of a database has the log_id of the original: give the copy a stream
// of its own, or a new log_id in log_partitions and null in its checkpoints.
//
// The archive keeps records for [streamer.Config.Retention] at least; a consumer
// that is added later than that cannot have the earlier ones.
package unilog
