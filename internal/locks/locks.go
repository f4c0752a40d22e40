// Package locks lists the advisory locks that unilog takes in a database, so that no
// two have the same numbers. A lock has two keys: its class, and a number.
package locks

// Their classes. The literals are in SQL, too: that of Sleep in the trigger of the
// staging table, that of Roles in roles.sql.
const (
	// Leader is how streamers elect the leader of a partition, whose number is the
	// second key.
	Leader = 0x756c6f67 // "ulog"
	// Sleep is held by who numbers while it sleeps. The second key is 0.
	Sleep = Leader + 1
	// Roles is held by roles.sql.
	Roles = Leader + 2
	// Member is shared by all streamers, who are counted by it. The second key is 0.
	Member = Leader + 3
	// Migration is held by whoever migrates. The second key is 0.
	Migration = Leader + 4
)
