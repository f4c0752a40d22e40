"""Bills for orders: a consumer of a unilog log, in one file to copy.

It applies each record once, in order, whatever fails. README.md says how to run it, and
docs/protocol.md why it is as it is. Your own part is TABLE and apply.
"""

import json
import os
import sys
import time

import psycopg
import redis
from psycopg.rows import dict_row

NAME = os.environ.get("CONSUMER", "bills")
STREAM = os.environ.get("STREAM_NAME", "unilog")
MOST = 500  # records of one transaction; a record may have 2 MiB

TABLE = "CREATE TABLE IF NOT EXISTS bills (order_id text PRIMARY KEY, cents bigint NOT NULL)"


def apply(tx, record):
    """Writes through tx alone, which saves the checkpoint, too."""
    if record["object"] != "order":
        return
    order, cents = record["key"], json.loads(record["data"])["cents"]
    if record["action"] == "create":
        tx.execute("INSERT INTO bills VALUES (%s, %s)", (order, cents))
    elif record["action"] == "change":
        changed = tx.execute("UPDATE bills SET cents = %s WHERE order_id = %s", (cents, order))
        if changed.rowcount != 1:
            raise ValueError(f"there is no bill for {order}")


class Halt(Exception):
    """What a person must decide."""


def check(format):
    if format != 1:
        raise Halt(f"the log is of format {format}, and this program knows format 1 alone: bring it up to date by docs/protocol.md")


def connect(url, **options):
    return psycopg.connect(url, autocommit=True, client_encoding="UTF8", **options)


# Of one instant: whose log it is, its partitions, how far the stream goes, what follows a place.
LOOK = """
local leader, head = redis.call('HMGET', KEYS[2], 'log_id', 'partitions', 'format'), '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then head = info[i + 1] end end
end
return {leader[1] or '', leader[2] or '1', head, redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1]), leader[3] or '1'}"""


class Redis:
    def __init__(self, url):
        self.redis = redis.Redis.from_url(url, socket_timeout=10)

    def stream(self, p):
        return STREAM if p == 0 else f"{STREAM}:{p}"

    def beside(self, stream, what):  # in the same slot of a cluster
        return f"{stream}:{what}" if "{" in stream else f"{{{stream}}}:{what}"

    def look(self, p, after):
        keys = self.stream(p), self.beside(self.stream(p), "leader")
        log_id, partitions, head, found, format = self.redis.eval(LOOK, 2, *keys, f"{after}-0", MOST)
        check(int(format))
        records = []
        for id, fields in found[0][1] if found else []:
            f = {name.decode(): value for name, value in zip(fields[::2], fields[1::2])}
            text = {n: v.decode() for n, v in f.items() if n != "data"}  # data may be anything
            records.append({**text, "data": f["data"], "offset": int(id.split(b"-")[0])})
        return log_id.decode(), int(partitions), int(head.split(b"-")[0]), records

    def wait(self, at):
        self.redis.xread({self.stream(p): f"{offset}-0" for p, (offset, _) in at.items()}, count=1, block=1000)

    def report(self, at):
        values = {f"{p}/{NAME}": f"{offset}/{int(time.time() * 1000)}" for p, (offset, _) in at.items()}
        self.redis.hset(self.beside(STREAM, "consumers"), mapping=values)


class Source:
    """The database in which records are staged: the archive and, with Postgres alone, the log."""

    def __init__(self, url):
        self.db, self.ear = connect(url, row_factory=dict_row), connect(url)
        self.ear.execute('LISTEN "unilog:published"')

    def head(self, p):
        head = self.db.execute("""
            SELECT log_id::text, format, (SELECT count(*) FROM unilog.partitions) AS number,
                coalesce(next_offset - 1, 0) AS numbered, coalesce(published_offset, 0) AS published
            FROM unilog.log LEFT JOIN unilog.partitions ON partition = %s""", (p,)).fetchone()
        check(head["format"])
        return head

    def between(self, p, after, up_to):
        sql = "SELECT *, data::text AS json FROM unilog.records_between(%s, %s, %s)"
        rows = self.db.execute(sql, (p, after, min(up_to, after + MOST)))
        return [{**r, "data": r["json"] if r.get("body") is None else r["body"]} for r in rows]

    def look(self, p, after):
        head = self.head(p)  # first: what is numbered meanwhile is not for readers yet
        return head["log_id"], head["number"], head["published"], self.between(p, after, head["published"])

    def wait(self, at):
        for _ in self.ear.notifies(timeout=1, stop_after=1):
            pass

    def report(self, at):
        self.db.execute("""
            INSERT INTO unilog.readers (name, partition, "offset") SELECT %s, * FROM unnest(%s::integer[], %s::bigint[])
            ON CONFLICT (name, partition) DO UPDATE SET "offset" = excluded."offset", reported_at = excluded.reported_at""",
            (NAME, list(at), [offset for offset, _ in at.values()]))


class Consumer:
    def __init__(self, database, log, source):
        self.db = connect(database)
        self.db.execute(TABLE)
        self.source = Source(source) if source else None
        self.log = self.source if log == "postgres:" else Redis(log)
        self.reports = source != database
        self.partitions, self.seen, self.told, self.waited = 1, 0, 0.0, False

    def checkpoints(self):
        """Registers new partitions, and shows that the consumer is alive."""
        rows = self.db.execute('SELECT partition, "offset", log_id FROM unilog.checkpoints WHERE name = %s', (NAME,))
        at = {p: (offset, log_id) for p, offset, log_id in rows}
        if len(at) < self.seen:
            raise Halt("its checkpoints are gone: was it forgotten, or its database restored?")
        self.seen = len(at)
        if len(at) < self.partitions:
            self.db.execute("""
                INSERT INTO unilog.checkpoints (name, partition) SELECT %s, p FROM generate_series(0, %s - 1) AS p
                ON CONFLICT DO NOTHING""", (NAME, self.partitions))
            return self.checkpoints()
        if time.monotonic() - self.told > 1:
            self.told = time.monotonic()
            self.db.execute("""
                UPDATE unilog.checkpoints SET updated_at = clock_timestamp()
                WHERE name = %s AND updated_at < clock_timestamp() - interval '15 s'""", (NAME,))
            if self.reports:
                self.log.report(at)
        return at

    def round(self):
        at = self.checkpoints()
        progress = any([self.step(p, at) for p in sorted(at)])
        if not progress:
            if self.waited:
                time.sleep(0.02)  # at a barrier there is something to read, and nothing to do
            self.log.wait(at)
        self.waited = not progress

    def step(self, p, at):
        """Applies what is next in a partition, and returns whether there was something."""
        offset, known = at[p]
        log_id, partitions, head, records = self.log.look(p, offset)
        if not log_id:
            return False  # emptied, and not claimed since
        if known and log_id != known:
            raise Halt(f"partition {p} is of log {log_id}, the checkpoint of {known}: give it the log that it read so far, or another name")
        self.partitions = max(self.partitions, partitions)
        up_to = records[0]["offset"] - 1 if records else head
        if up_to != offset:
            records = self.fill(p, offset, log_id, up_to)
        records = [r for i, r in enumerate(records) if r["offset"] == offset + 1 + i]
        marks = [i for i, r in enumerate(records) if r["object"] == "unilog"]
        batch = records[:max(marks[0], 1)] if marks else records
        if not batch or not self.may_pass(batch[0], at):
            return False
        self.save(p, offset, log_id, batch)
        return True

    def may_pass(self, record, at):
        """At a barrier all partitions must have come to theirs."""
        if (record["object"], record["action"]) != ("unilog", "repartition"):
            return True
        offsets = json.loads(record["data"])["offsets"]
        return all(at.get(p, (0,))[0] >= barrier - 1 for p, barrier in enumerate(offsets))

    def fill(self, p, offset, log_id, up_to):
        """The records after offset that the log does not hold any more."""
        if not self.source:
            if up_to > offset:
                raise Halt(f"the log has dropped records {offset + 1} to {up_to} of partition {p}: set SOURCE_URL to the database they were staged in")
            return []
        source = self.source.head(p)
        if source["log_id"] != log_id:
            raise Halt(f"SOURCE_URL is the database of log {source['log_id']}, and LOG_URL has log {log_id}")
        if source["numbered"] < offset:
            raise Halt(f"the checkpoint of partition {p} is {offset}, its source only at {source['numbered']}: was it restored?")
        records = self.source.between(p, offset, up_to)
        if offset < min(up_to, source["numbered"]) and (not records or records[0]["offset"] != offset + 1):
            raise Halt(f"neither the log nor the archive has record {offset + 1} of partition {p}")
        return records

    def save(self, p, offset, log_id, batch):
        with self.db.transaction():
            moved = self.db.execute("""
                UPDATE unilog.checkpoints SET "offset" = %s, position = '', log_id = %s, updated_at = clock_timestamp()
                WHERE name = %s AND partition = %s AND "offset" = %s""", (batch[-1]["offset"], log_id, NAME, p, offset))
            # If somebody else has moved it, nothing is done, and it is read again.
            for record in batch if moved.rowcount == 1 else []:
                try:
                    if record["object"] != "unilog":
                        apply(self.db, record)
                except (ValueError, LookupError, TypeError, psycopg.DataError, psycopg.IntegrityError) as e:
                    raise Halt(f"record {record['offset']} of partition {p} was rejected: {e}") from e


def main():
    database, log, source = (os.environ.get(name) for name in ("DATABASE_URL", "LOG_URL", "SOURCE_URL"))
    if not database or not log or (log == "postgres:" and not source):
        sys.exit("set DATABASE_URL and LOG_URL, and SOURCE_URL if LOG_URL is postgres: see README.md")
    while True:
        try:
            consumer = Consumer(database, log, source)
            while True:
                consumer.round()
        except Halt as e:
            sys.exit(f"{NAME} halts: {' '.join(str(e).split())}")
        except (psycopg.Error, redis.RedisError) as e:
            print(f"{NAME}: trying again: {' '.join(str(e).split())}", file=sys.stderr)
            time.sleep(1)


if __name__ == "__main__":
    main()
