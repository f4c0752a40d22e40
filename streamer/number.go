package streamer

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/archive"
)

// sqlPartition is the partition of a record, among the active ones: see
// [unilog.PartitionOf]. It is the first four bytes of the SHA-256 of its key modulo
// their number; a record without a key goes by its id.
const sqlPartition = `
        CASE WHEN (SELECT n FROM status) = 1 THEN 0
            WHEN r.key = '' THEN abs(r.id)
            ELSE ('x' || encode(substr(sha256(convert_to(r.key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint
        END % (SELECT n FROM status)`

// sqlNumber moves the oldest visible rows whose ids lie after $4 and up to $5 from the
// staging table to the archive and gives them the next offsets, for all partitions. It
// is one statement, and so has one snapshot: a row that it does not see it does not
// touch, however low its id. It runs in one transaction after [locks.SQLNumbering], so
// its snapshot has what the one before it did.
//
// With another epoch in the log's row nothing is deleted: status is then empty. Nor is a
// record of a partition whose head was not compared with the log in this term. What is
// deleted is what was selected, by its place in the table, which is quicker than by its
// id. Should somebody else have deleted or changed a row meanwhile, the statement fails by
// a division by zero. At most about $2 rows and $3 bytes, as they are written out.
//
// A time that no clock shows, as infinity, becomes one that everybody can read.
//
// It returns a row for each batch, with the entries of those partitions that are in $6,
// or one row if there is none. On the way it records how far the log goes ($7, $8),
// which saves a transaction. Who listens hears of it when it is committed, if $9 says so.
//
// There are two ways to put the rows together: sqlNumber has [sqlInOrder] and takes
// whatever there is, sqlNumberSmall [sqlStraight] and takes nothing, as its last column
// says, if it is not for that.
//
// Index: staged_records_pkey, partitions_pkey.
var sqlNumber, sqlNumberSmall = numbering(sqlInOrder, "false"), numbering(sqlStraight, "(SELECT fits FROM small)")

func numbering(gathered, straight string) string {
	sql := strings.NewReplacer("{gathered}", gathered, "{straight}", straight).Replace(sqlNumbering)
	sql = strings.ReplaceAll(sql, "{rows}", sqlOldest)
	return strings.NewReplacer("{partition}", strings.ReplaceAll(sqlPartition, "r.", "o."),
		"{size}", "octet_length(action) + octet_length(object) + octet_length(key) + octet_length(headers)"+
			" + coalesce(octet_length(data), octet_length(body) + octet_length(content_type))",
		"{bytes}", "pg_column_size(action) + pg_column_size(object) + pg_column_size(key) + pg_column_size(data) + pg_column_size(headers)"+
			" + coalesce(pg_column_size(body) + pg_column_size(content_type), 0)").Replace(sql)
}

const (
	sqlNumbering = `
WITH status AS MATERIALIZED (
    SELECT l.partitions AS n, (
        SELECT count(*) FROM unilog.partitions AS p WHERE p.partition < l.partitions AND p.compared = l.epoch
    ) AS compared
    FROM unilog.log AS l WHERE l.epoch = $1
), heads AS MATERIALIZED (
    SELECT p.partition, p.next_offset
    FROM unilog.partitions AS p CROSS JOIN status
    WHERE p.partition < status.n AND p.compared = $1
), {gathered}, moved AS (
    DELETE FROM unilog.staged_records AS s
    WHERE s.ctid = ANY ((SELECT places FROM places)::tid[])
    RETURNING 1
), placed AS (
    INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers, body, content_type)
    SELECT h.partition, h.next_offset, h.next_offset + records - 1, {bytes},
        staged_at, action, object, key, data, headers, body, content_type
    FROM gathered AS g JOIN heads AS h ON h.partition = g.partition
    RETURNING *
), advanced AS (
    UPDATE unilog.partitions AS p
    SET next_offset = b.last_offset + 1, published_offset = greatest(p.published_offset, u."offset")
    FROM placed AS b LEFT JOIN unnest($7::integer[], $8::bigint[]) AS u (partition, "offset") ON u.partition = b.partition
    WHERE p.partition = b.partition
    RETURNING CASE WHEN $9 THEN pg_notify('unilog:numbered', p.partition::text) END
)
SELECT status.n, status.compared, coalesce((SELECT up_to FROM places), 0),
    (SELECT count(*) / (count(*) = (SELECT coalesce(sum(records), 0) FROM gathered))::integer FROM moved),
    coalesce(b.partition, -1), coalesce(b.last_offset, 0), coalesce(b.bytes, 0),
    b.first_offset, w.*, {straight}
FROM status
LEFT JOIN placed AS b ON true
LEFT JOIN LATERAL (
    SELECT b.staged_at, b.action, b.object, b.key, b.data, b.headers, b.body, b.content_type WHERE b.partition = ANY ($6::integer[])
) AS w ON true`

	// sqlInOrder is for rows of any size, in any number of partitions: what does not fit
	// into memory goes to disk on its way. Where all together have less than $3 bytes, as
	// they nearly always have, they need not be added up one by one. A batch has bodies only
	// if one of its records does: most logs have none.
	sqlInOrder = `oldest AS MATERIALIZED ({rows}
), taken AS MATERIALIZED (
    SELECT CASE
            WHEN sum({size}) < $3::bigint THEN max(id)
            ELSE (
                SELECT max(id) FROM (
                    SELECT id, sum({size}) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                    FROM oldest
                ) AS o WHERE coalesce(before, 0) < $3::bigint
            )
        END AS up_to
    FROM oldest
), places AS MATERIALIZED (
    SELECT ARRAY(SELECT place FROM oldest WHERE id <= up_to) AS places, up_to FROM taken
), gathered AS (
    SELECT partition, count(*) AS records, array_agg(staged_at) AS staged_at, array_agg(action) AS action,
        array_agg(object) AS object, array_agg(key) AS key, array_agg(data) AS data, array_agg(headers) AS headers,
        CASE WHEN count(content_type) > 0 THEN array_agg(body) END AS body,
        CASE WHEN count(content_type) > 0 THEN array_agg(content_type) END AS content_type
    FROM (SELECT * FROM oldest WHERE id <= (SELECT up_to FROM taken) ORDER BY partition, id) AS m
    GROUP BY partition
)`

	// sqlStraight is for one partition and small rows without bodies, which go straight into
	// arrays, in the order in which they are read. What is not small stays out of these, so
	// that they fit into memory, and then none is taken.
	sqlStraight = `read AS MATERIALIZED (
    SELECT count(*) AS records, max(id) AS up_to, coalesce(bool_and(small), true) AS small, array_agg(place) AS places,
        array_agg(staged_at) AS staged_at, array_agg(action) FILTER (WHERE small) AS action,
        array_agg(object) FILTER (WHERE small) AS object, array_agg(key) FILTER (WHERE small) AS key,
        array_agg(data) FILTER (WHERE small) AS data, array_agg(headers) FILTER (WHERE small) AS headers
    FROM (
        SELECT *, content_type IS NULL AND {size} < 4096 AS small FROM ({rows}) AS o
        WHERE (SELECT n = 1 FROM status)
        OFFSET 0 -- or else small is worked out for each column
    ) AS o
), gathered AS MATERIALIZED (
    SELECT * FROM read CROSS JOIN (SELECT 0 AS partition, NULL::bytea[] AS body, NULL::text[] AS content_type) AS c
    WHERE records > 0 AND small AND {bytes} < $3::bigint
), places AS (
    SELECT places, up_to FROM gathered
), small AS (
    SELECT n = 1 AND (records = 0 OR EXISTS (SELECT FROM gathered)) AS fits FROM status, read
)`

	// sqlOldest are the rows that a step looks at, in the order of their ids.
	sqlOldest = `
        SELECT o.ctid AS place, o.id, least(greatest(o.staged_at, '1970-01-01 00:00+00'), '9999-01-01 00:00+00') AS staged_at,
            o.action, o.object, o.key, o.data::text AS data,
            coalesce(o.headers::text, '{}') AS headers, o.body, o.content_type, {partition} AS partition
        FROM unilog.staged_records AS o
        WHERE o.id > $4 AND o.id <= $5 AND (
            (SELECT compared = n FROM status)
            OR {partition} IN (SELECT partition FROM heads)
        )
        ORDER BY o.id
        LIMIT $2`

	// Index: staged_records_pkey. Ordered, so that it takes the index: EXISTS would scan
	// the table, whose first pages are empty after a backlog.
	sqlStaged = `SELECT (SELECT id FROM unilog.staged_records WHERE id > $1 ORDER BY id LIMIT 1) IS NOT NULL`
)

// collect reads the rows of sqlNumber.
func (n *numberer) collect(rows pgx.Rows) (all []numbered, moved int, last int64, err error) {
	defer rows.Close()
	found := false
	for rows.Next() {
		found = true
		var compared, bytes int
		var first *int64 // none in the row without a batch
		var b numbered
		if err := rows.Scan(&n.active, &compared, &last, &moved, &b.partition, &b.last, &bytes, &first, nil, nil, nil, nil, nil, nil, nil, nil, &n.straight); err != nil {
			return nil, 0, 0, err
		}
		n.partial = compared < n.active
		if b.partition < 0 {
			continue
		}
		b.batch.bytes, b.first = bytes, *first
		if rows.RawValues()[8] != nil {
			if b.batch.entries, err = archive.Append(nil, rows, 7, b.partition); err != nil {
				return nil, 0, 0, err
			}
		}
		all = append(all, b)
	}
	if err := rows.Err(); err != nil {
		return nil, 0, 0, err
	}
	if !found {
		return nil, 0, 0, errNumbersElsewhere
	}
	return all, moved, last, nil
}
