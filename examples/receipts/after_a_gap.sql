-- At the receipts, while the service is stopped.
BEGIN;
CREATE TEMPORARY TABLE snapshot_rides (id bigint, distance numeric) ON COMMIT DROP;
CREATE TEMPORARY TABLE snapshot_heads (partition integer, "offset" bigint, log_id uuid) ON COMMIT DROP;
\copy snapshot_rides FROM snapshot_rides.csv CSV
\copy snapshot_heads FROM snapshot_heads.csv CSV
INSERT INTO receipts (ride_id, distance, cents)
SELECT id, distance, distance * 1.5 FROM snapshot_rides
ON CONFLICT (ride_id) DO NOTHING;
INSERT INTO unilog.checkpoints AS c (name, partition, "offset", log_id)
SELECT 'receipts', partition, "offset", log_id FROM snapshot_heads
ON CONFLICT (name, partition) DO UPDATE SET "offset" = excluded."offset", position = '', log_id = excluded.log_id
WHERE c."offset" < excluded."offset";
COMMIT;
