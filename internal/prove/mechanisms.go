package main

// mechanism is what a promise of docs/guarantees.md rests on, and how the code is
// without it.
type mechanism struct {
	// Promise is the heading of the promise.
	Promise string
	// Without says what is taken away.
	Without string
	// File, and the text in it, once, that is replaced.
	File, Old, New string
	// Test has to fail then.
	Test string
}

// The promises in the order of the document.
var mechanisms = []mechanism{
	{
		Promise: "A record is in the log if and only if its transaction committed",
		Without: "the row that Stage inserts in the writer's transaction",
		File:    "stage.go",
		Old:     "inserted, err := exec(s.SQL(statement), columns)",
		New:     "_, _, inserted, err := exec, statement, int64(len(records)), error(nil)",
		Test:    "TestStageFollowsTheTransaction",
	},
	{
		Promise: "Each record is in the log exactly once",
		Without: "the comparison of a batch's first offset with the log's head",
		File:    "redislog/append.lua",
		Old:     "if head >= offset then",
		New:     "if false then",
		Test:    "TestWay8BatchSentAgain",
	},
	{
		Promise: "A record comes back as it was staged",
		Without: "carrying JSON as its text: as a number of binary digits it is rounded",
		File:    "streamer/number.go",
		Old:     "o.data::text AS data",
		New:     "regexp_replace(o.data::text, '([0-9]{15})[0-9]+', '\\1', 'g') AS data",
		Test:    "TestRecordsComeBackAsTheyWent",
	},
	{
		Promise: "What committed before a transaction began comes before it",
		Without: "the order of staging, in which records are numbered",
		File:    "streamer/number.go",
		Old:     "        ORDER BY o.id\n        LIMIT $2",
		New:     "        ORDER BY o.id DESC\n        LIMIT $2",
		Test:    "TestNothingLostDoubledOrReordered",
	},
	{
		Promise: "No writer waits, and no open transaction holds others up",
		Without: "numbering what is visible: it waits for all older transactions, as others do",
		File:    "streamer/number.go",
		Old:     "WHERE o.id > $4 AND o.id <= $5 AND (",
		New:     "WHERE o.id > $4 AND o.id <= $5 AND o.xmin::text::bigint < (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint) AND (",
		Test:    "TestWay10OpenTransactionDoesNotStall",
	},
	{
		Promise: "Offsets have no gaps and never change",
		Without: "the head that moves by as many offsets as were given",
		File:    "streamer/number.go",
		Old:     "SET next_offset = b.last_offset + 1,",
		New:     "SET next_offset = b.last_offset + 2,",
		Test:    "TestNothingLostDoubledOrReordered",
	},
	{
		Promise: "The log may lose anything, all of it included",
		Without: "what is published again: the log is told to begin after what was lost",
		File:    "streamer/publish.go",
		Old:     "	if head < upTo {\n",
		New:     "	if upTo = published; head < upTo {\n",
		Test:    "TestWay4LogLosesAcknowledgedEntries",
	},
	{
		Promise: "A leader of the past does no harm",
		Without: "the comparison of epochs in the log",
		File:    "redislog/append.lua",
		Old:     "if leader[2] and tonumber(leader[2]) > tonumber(ARGV[2]) then",
		New:     "if false then",
		Test:    "TestZombieDoesNoHarm",
	},
	{
		Promise: "Each consumer applies each record once, in order",
		Without: "the place where the batch began, in the statement that moves the checkpoint",
		File:    "consumer/apply.go",
		Old:     `"offset" = $3 AND paused_at IS NULL`,
		New:     `$3::bigint IS NOT NULL AND paused_at IS NULL`,
		Test:    "TestWay7TwoInstancesOfOneConsumer",
	},
	{
		Promise: "A consumer never passes over a record",
		Without: "the comparison of the first offset that was read with the next one",
		File:    "internal/reader/gap.go",
		Old:     "entries[0].Offset == next {",
		New:     "entries[0].Offset >= next {",
		Test:    "TestWay5TrimmedBeforeItWasRead",
	},
	{
		Promise: "The records of a key stay in order, also when the number of partitions changes",
		Without: "waiting at a barrier for the other partitions",
		File:    "consumer/barrier.go",
		Old:     "return behind, err",
		New:     "return 0, err",
		Test:    "TestKeysKeepTheirOrderWhenPartitionsChange",
	},
	{
		Promise: "A deliverer delivers each record at least once, in order, and passes over none",
		Without: "saving after the call, and not before it",
		File:    "deliverer/partition.go",
		Old:     "	err := p.call(ctx, entries)\n",
		New:     "	p.pass(to, len(entries))\n	err := errors.Join(p.flush(ctx), p.call(ctx, entries))\n",
		Test:    "TestDelivererCrashesAroundItsSave",
	},
	{
		Promise: "What a person does to a consumer is heeded by all of its processes",
		Without: "the pause, in the statement that moves the checkpoint",
		File:    "consumer/apply.go",
		Old:     `"offset" = $3 AND paused_at IS NULL`,
		New:     `"offset" = $3`,
		Test:    "TestPauseStopsWhoHasReadOn",
	},
	{
		Promise: "Another database's records are never applied",
		Without: "the comparison of the log's id with the checkpoint's",
		File:    "consumer/checkpoint.go",
		Old:     "return &unilog.ForeignLogError{Consumer: c.name, Partition: c.partition, LogID: c.logID, Theirs: logID}",
		New:     "return nil",
		Test:    "TestLogOfAnotherDatabase",
	},
	{
		Promise: "A log can move while everything runs",
		Without: "looking again where the log is",
		File:    "switchlog/switchlog.go",
		Old:     "if before != nil && before.generation == generation {",
		New:     "if before != nil {",
		Test:    "TestLogMovesWhileRecordsFlow",
	},
	{
		Promise: "A process that cannot do its work gives it away",
		Without: "the look whether the log could be read",
		File:    "consumer/condition.go",
		Old:     "case c.reading.IsZero() || time.Since(c.reading) < patience:",
		New:     "case c.reading.IsZero() || time.Since(c.reading) >= 0:",
		Test:    "TestLogThatOneProcessCannotRead",
	},
	{
		Promise: "All this can be proved at any instant",
		Without: "what is staged, in the equation",
		File:    "audit/audit.go",
		Old:     "    truth = total + ahead + staged + parked OR began > 0 AS agrees,",
		New:     "    truth = total + ahead + parked OR began > 0 AS agrees,",
		Test:    "TestAuditSeesEveryKindOfDamage",
	},
	{
		Promise: "Nothing waits for ever",
		Without: "the bound of an append",
		File:    "streamer/leader.go",
		Old:     "ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)\n\tdefer cancel()\n\tif err := postgres.Patiently(ctx, f)",
		New:     "if err := postgres.Patiently(context.WithoutCancel(ctx), f)",
		Test:    "TestEveryCallIsBounded",
	},
}
