// Package streamer moves staged records to the log: it numbers them, publishes them
// in order, and trims what is no longer needed.
//
//	staged_log_records ──number──▶ log_records ──publish──▶ log
//	                              (the archive)              │
//	                                    ▲                    │ trim
//	                                    └──── rebuild ◀──────┘ what the log has lost
//
// Any number of streamers may run. Each partition has one leader at a time:
//
//	          takes the advisory lock, begins a term of a new epoch
//	standby ─────────────────────────────────────────────────────▶ leader
//	   ▲                                                             │
//	   └─────────────────────────────────────────────────────────────┘
//	     loses its session, is fenced by a later epoch, gives up after
//	     an error, or leaves the lead to another streamer's share
//
// A leader's state is a session of Postgres, which holds the lock, and what Postgres
// and the log say: after any failure it starts again from those two. In a term it
// repeats one step:
//
//  1. Once a second it looks after the log: it claims it again, compares the log's
//     head with what was numbered, and trims.
//  2. It takes the next batch: what is numbered and not published yet, from the
//     archive; else it numbers a batch. If there is none it sleeps, until a writer
//     wakes it.
//  3. It appends the batch to the log, in parts. The log refuses what it holds
//     already, and says if it has lost entries: then the batches after its head come
//     again from the archive.
//
// Where there are several partitions, the leader of the first one numbers for all of
// them, in a session of its own, and each leader publishes its partition from the
// archive.
//
// A person is needed where going on could harm: the log is ahead of its database, or
// holds other records, or belongs to another database, or its server may drop what
// nobody has trimmed. [Streamer.Run] then returns an error that says what to do.
package streamer
