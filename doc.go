// Package unilog ends dual writes: it carries records from transactions in
// Postgres to an ordered log that any number of consumers read, so that every
// consumer's state agrees with the database, whatever fails.
//
//	writer ── Stage, in its transaction ──▶ staged_records
//	                                             │ number
//	streamer                                batches ── append ──▶ log
//	                                             ┆ gaps               │ read
//	consumer ◀─ Handler and checkpoint, in one transaction ◀──────────┘
//
// A writer calls [Stage], or [StageSQL] with another driver than pgx, in the transaction
// that changes its own tables. The other packages do the rest:
//
//   - [github.com/rocketrides/unilog/streamer] moves staged records to the log, in
//     order.
//   - [github.com/rocketrides/unilog/consumer] reads the log and calls a handler in the
//     transaction that saves the checkpoint.
//   - [github.com/rocketrides/unilog/deliverer] carries records to where no transaction
//     reaches.
//   - [github.com/rocketrides/unilog/audit] proves that consumers agree with the
//     database, and [github.com/rocketrides/unilog/status] says what is stuck and why.
//   - [github.com/rocketrides/unilog/migration] makes the tables.
//   - [github.com/rocketrides/unilog/engine] opens the log that a URL names. The log is
//     a [Log]: in Redis ([github.com/rocketrides/unilog/redislog]), in Kafka
//     ([github.com/rocketrides/unilog/kafkalog]), or in the database itself
//     ([github.com/rocketrides/unilog/pglog]).
//     [github.com/rocketrides/unilog/switchlog] moves it from one to another.
//   - [github.com/rocketrides/unilog/metrics] and
//     [github.com/rocketrides/unilog/tracing] watch streamers and consumers.
//   - [github.com/rocketrides/unilog/logtest] has a log in memory for tests.
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
//   - A deliverer delivers each record at least once, in order within a partition, and
//     passes over none.
//
// An [github.com/rocketrides/unilog/audit.Equation] checks all of this. It holds at
// every instant, also in the middle of every failure.
//
// # Caveats
//
// Postgres is what must not be lost: a commit that it forgets (fsync or
// synchronous_commit off, an asynchronous standby promoted) is forgotten by the
// log of record too, and a log that remembers it makes the streamer refuse to
// run, with a [LogAheadError].
//
// The streamer keeps a session of Postgres for its advisory locks, and the one that
// numbers keeps another, so it needs connections to the server itself or to a pooler in
// session mode.
//
// A copy of a database has the log_id of the original: give the copy a stream
// of its own, or a new log_id in unilog.log and null in its checkpoints.
//
// The archive keeps records for
// [github.com/rocketrides/unilog/streamer.Config.Retention] at least; a consumer
// that is added later than that cannot have the earlier ones.
package unilog
