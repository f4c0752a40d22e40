// Package consumer reads a log and applies each of its records once to a state in
// Postgres.
//
//	log ── read ──▶ entries after the checkpoint
//	archive ┄ gaps ┄▶   │
//	                    ▼
//	one transaction:  advance the checkpoint, from where the batch began
//	                  call the Handler, which writes the state
//	                  commit
//
// A program makes a [Consumer] with [New] and calls [Consumer.Run]:
//
//	c, err := consumer.New(consumer.Config{Name: "totals", DB: db, Log: log, Archive: source, Handler: consumer.Each(add)})
//	…
//	err = c.Run(ctx)
//
// With database/sql, or a library on top of it, [SQL] makes the Handler.
//
// # Guarantees
//
//   - Each record takes effect once, in order within its partition, as long as the
//     [Handler] writes through its transaction alone. It may be called more than once
//     for the same records: what it did before was rolled back.
//   - No record is passed over, but of kinds that [Config.Only] does not ask for. What
//     the log has lost comes from the archive, or the consumer stops. A record that the
//     handler rejects stops it too, or is put into dead_letters with ParkRejected; see
//     [DeadLetters].
//   - Records of a key stay in order when the number of partitions changes.
//   - A process may crash, freeze or lose its connections at any moment.
//
// # Several processes
//
// Processes of one name share the partitions out by leases in Postgres. One that has
// none stands by, and takes over about 2.5 s after another is gone, and within 5 s what
// another cannot do: because it cannot read the log, or its handler hangs. Leases
// only save work: two processes at one partition still apply each record once,
// because the second finds that the checkpoint has moved, and rolls back.
// Consumers of different names know nothing of each other.
//
// # Kinds of records
//
// With [Config.Only] a Handler gets some kinds of records alone, and a [Mux] gives each to
// the function of its kind, decoded. Package unilogtest is for tests of handlers.
//
// # What stops it
//
// [Consumer.Run] goes on through the loss of Postgres and of the log. It returns an
// error only where a person must decide: a [unilog.RejectedError], a
// [unilog.GapError], a [unilog.CheckpointAheadError], a [unilog.ForeignLogError], a
// [unilog.FormatError], a [unilog.NotArchivedError], [unilog.ErrTransactionSpoiled], [unilog.ErrDeliverersName] or
// [unilog.ErrCheckpointGone]. Each says what to do. With [Config.RetryHalted] it waits
// there, and tries again.
//
// # What a person can do to it
//
// [In] has Seek, Pause, Resume, Skip and Requeue, also for deliverers. They are one
// transaction each, heeded by the processes that run, and noted in the table interventions.
//
// For effects outside Postgres, see package deliverer.
package consumer
