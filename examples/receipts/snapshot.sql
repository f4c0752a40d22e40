-- At the source: the rides that the log tells of, and how far it goes, of one
-- instant. What is still staged comes by the log.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
\copy (SELECT id, distance FROM rides AS r WHERE NOT EXISTS (SELECT FROM unilog.staged_records WHERE action = 'create' AND object = 'ride' AND key = r.id::text)) TO snapshot_rides.csv CSV
\copy (SELECT partition, next_offset - 1, log_id FROM unilog.partitions, unilog.log) TO snapshot_heads.csv CSV
COMMIT;
