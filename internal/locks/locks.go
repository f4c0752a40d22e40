package locks

// Leader is the first key of the advisory lock by which streamers elect
// their leader; the second is the partition.
const Leader = 0x756c6f67

// Sleep is the first key of the advisory lock with which who numbers sleeps;
// the second is 0. The trigger on the staging table, which wakes it, has the same
// numbers: see the migration.
const Sleep = Leader + 1

// Member is the first key of the advisory lock that each streamer shares
// with the others, to be counted. The one before it is that of roles.sql.
const Member = Leader + 3
