// Package streamer moves staged records to the log: it numbers them, publishes them
// in order, and trims what is no longer needed.
//
//	staged_records ──number──▶ batches ──publish──▶ log
//	                           (the archive)          │
//	                                ▲                 │ trim
//	                                └──── rebuild ◀───┘ what the log has lost
//
// Any number of streamers may run. One of them numbers, for all partitions, and each
// partition has one leader, which publishes it. A streamer has one session of Postgres
// that holds all its locks, and a second one to number with:
//
//	              a free lock                   an error, a later epoch,
//	standby ─────────────────────▶ numberer     too large a share,
//	                               leader of 0  or the end of the session
//	                               leader of 3  ─────────────────────────▶ standby
//
// What a streamer holds in memory can be had again from Postgres and the log: after any
// failure it starts again from those two.
//
// The numberer moves staged records to the archive, in steps, and hands them to the
// leaders of its process when they are committed. If there are none it sleeps, until a
// writer wakes it. It gives no offset in a partition whose head was not compared with
// the log in its term.
//
// A leader repeats one step:
//
//  1. Once a second it looks after the log: it claims it again, and compares the log's
//     head with what was numbered.
//  2. It takes the next batch, from the numberer or else from the archive.
//  3. It appends the batch to the log, in parts. The log refuses what it holds
//     already, and says if it has lost entries: then the batches after its head come
//     again from the archive.
//
// A person is needed where going on could harm: the log is ahead of its database, or
// holds other records, or belongs to another database, or its server may drop what
// nobody has trimmed. [Streamer.Run] then returns an error that says what to do.
package streamer
