package bench

// All that the bench says about unilog's tables.
const (
	// sqlStage stages fixed rides: 5.00 to 999.99 m.
	sqlStage = `
INSERT INTO unilog.staged_records (action, object, key, data)
SELECT 'create', 'ride', n::text, jsonb_build_object('id', n, 'distance', round((500 + n % 99500) / 100.0, 2))
FROM generate_series(1, $1::bigint) AS n`

	sqlPublished = `SELECT sum(published_offset)::bigint FROM unilog.partitions`

	// sqlArchiveBytes is what the archive takes on disk, with its indexes.
	sqlArchiveBytes = `SELECT pg_total_relation_size('unilog.batches')::float8`

	// sqlTrickled is how much WAL there is, what the archive takes, and how many dead
	// tuples the tables have that a record passes through.
	sqlTrickled = `
SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8, (` + sqlArchiveBytes + `), (
    SELECT coalesce(sum(n_dead_tup), 0)::float8 FROM pg_stat_user_tables
    WHERE schemaname = 'unilog' AND relname IN ('staged_records', 'partitions', 'batches')
)`

	// sqlVacuum is for the tables that a record passes through.
	sqlVacuum = `VACUUM unilog.staged_records, unilog.partitions, unilog.batches`

	sqlApplied = `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints WHERE name = $1`
)

// The bench holds all leases until the processes of a consumer have joined, so
// that they begin together.
const (
	sqlHoldLeases = `
WITH member AS (
    INSERT INTO unilog.members (name, member) VALUES ($1, 'bench')
    ON CONFLICT (name, member) DO UPDATE SET seen_at = excluded.seen_at
)
INSERT INTO unilog.leases (name, partition, member)
SELECT $1, partition, 'bench' FROM unilog.partitions
ON CONFLICT (name, partition) DO NOTHING`

	sqlCountMembers = `SELECT count(*) FROM unilog.members WHERE name = $1 AND member <> 'bench'`

	sqlReleaseLeases = `
WITH member AS (
    DELETE FROM unilog.members WHERE name = $1 AND member = 'bench'
)
DELETE FROM unilog.leases WHERE name = $1 AND member = 'bench'`

	sqlConsumed = `SELECT coalesce(sum("offset"), 0)::bigint FROM unilog.checkpoints WHERE name = $1`
)

// What the bare loops do, which are the limits.
const (
	sqlBareConsumer = `INSERT INTO unilog.checkpoints (name, partition) VALUES ($1, $2)`

	// sqlBareCheckpoint waits for the disk no more than a consumer's own commit.
	sqlBareCheckpoint = `
WITH unsynced AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE unilog.checkpoints SET "offset" = $3 FROM unsynced WHERE name = $1 AND partition = $2`

	sqlBareStep = `UPDATE unilog.checkpoints SET "offset" = "offset" + 1 WHERE name = $1`

	// pgbenchScript does what a booking does, in one statement.
	pgbenchScript = `WITH ride AS (INSERT INTO rides (distance) VALUES (123.45) RETURNING id, distance)
INSERT INTO unilog.staged_records (action, object, key, data)
SELECT 'create', 'ride', id::text, jsonb_build_object('id', id, 'distance', distance) FROM ride;
`

	// sqlArchiveLimit makes a table like the archive, for pgbenchArchiveScript, which
	// writes what the archive takes, and no more: archiveBatch records at once.
	sqlArchiveLimit = `
CREATE TABLE archive_limit (LIKE unilog.batches INCLUDING DEFAULTS INCLUDING COMPRESSION, PRIMARY KEY (partition, last_offset));
ALTER TABLE archive_limit ALTER last_offset ADD GENERATED ALWAYS AS IDENTITY`
	archiveBatch         = 5000
	pgbenchArchiveScript = `INSERT INTO archive_limit (partition, first_offset, bytes, staged_at, action, object, key, data, headers)
SELECT 0, 0, 300000, array_agg(now()), array_agg('create'::text), array_agg('ride'::text), array_agg(n::text),
    array_agg(jsonb_build_object('id', n, 'distance', 123.45)::text), array_agg('{}'::text)
FROM generate_series(1, 5000) AS n;
`
)
