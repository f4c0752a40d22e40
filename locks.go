package unilog

// lockClass is the first key of the advisory lock by which streamers elect
// their leader; the second is the partition.
const lockClass = 0x756c6f67

// sleepClass is the first key of the advisory lock with which who numbers sleeps;
// the second is 0. The trigger on the staging table, which wakes it, has the same
// numbers: see the migration.
const sleepClass = lockClass + 1

// memberClass is the first key of the advisory lock that each streamer shares
// with the others, to be counted. The one before it is that of roles.sql, the one
// after it that of package migration.
const memberClass = lockClass + 3
