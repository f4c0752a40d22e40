// Package locks lists the advisory locks that unilog takes in a database, so that no
// two are the same. A lock has two keys. The first one is the oid of a table of the
// log's, so that each log in a database has locks of its own; the second is a number.
package locks

// The first keys, as SQL for statements that pass through Schema.SQL. The one of
// staged_records is in its trigger, too.
const (
	// Staged is the first key of Sleep, Member, Numberer and Numbering.
	Staged = `'unilog.staged_records'::regclass::oid::integer`
	// Leader is how streamers elect the leader of a partition, whose number is the
	// second key.
	Leader = `'unilog.partitions'::regclass::oid::integer`
	// Intervention is held by a transaction that intervenes with the consumer whose
	// name's hash is the second key.
	Intervention = `'unilog.checkpoints'::regclass::oid::integer`
)

// The second keys beside Staged.
const (
	// Sleep is held by the streamer that numbers while it sleeps, and shared by writers.
	Sleep = 0
	// Member is shared by all streamers, who are counted by it.
	Member = 1
	// Numberer is how streamers elect the one that numbers.
	Numberer = 2
	// Numbering is held by a transaction that changes the archive or the heads.
	Numbering = 3
)

// Those that are needed before there are tables, and so are one for a whole database.
// The second key is 0.
const (
	// Roles is held by roles.sql, which has it as a literal.
	Roles = 0x756c6f69
	// Migration is held by whoever migrates.
	Migration = 0x756c6f6b
)

// SQLNumbering takes the lock of a transaction that changes the archive or the heads.
// What the next statement sees is then the last that such a transaction has left.
const SQLNumbering = `SELECT pg_advisory_xact_lock('unilog.staged_records'::regclass::oid::integer, 3)`

// SQLIntervention takes the lock of a transaction that intervenes with a consumer, or that
// registers one elsewhere than at the beginning.
const SQLIntervention = `SELECT pg_advisory_xact_lock(` + Intervention + `, hashtext($1))`
