// Bills for orders: a consumer of a unilog log, in one file to copy.
//
// It applies each record once, in order, whatever fails. README.md says how to run it,
// and docs/protocol.md why it is as it is. Your own part is TABLE and apply.

import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createClient, RESP_TYPES } from 'redis'

const { DATABASE_URL, LOG_URL, SOURCE_URL, CONSUMER: NAME = 'bills', STREAM_NAME: STREAM = 'unilog' } = process.env
const MOST = 500 // records of one transaction; a record may have 2 MiB

const TABLE = 'CREATE TABLE IF NOT EXISTS bills (order_id text PRIMARY KEY, cents bigint NOT NULL)'

// apply writes through tx alone, which saves the checkpoint, too.
async function apply (tx, record) {
  if (record.object !== 'order') return
  const { cents } = JSON.parse(record.data)
  if (record.action === 'create') {
    await tx.query('INSERT INTO bills VALUES ($1, $2)', [record.key, cents])
  } else if (record.action === 'change') {
    const changed = await tx.query('UPDATE bills SET cents = $1 WHERE order_id = $2', [cents, record.key])
    if (changed.rowCount !== 1) throw new Error(`there is no bill for ${record.key}`)
  }
}

// Halt is what a person must decide.
class Halt extends Error {}

const open = [] // what is to be closed

function check (format) {
  if (format !== 1) throw new Halt(`the log is of format ${format}, and this program knows format 1 alone: bring it up to date by docs/protocol.md`)
}

async function connect (url) {
  const db = new pg.Client({ connectionString: url, client_encoding: 'UTF8' })
  db.on('error', () => {}) // the next query says so, too
  open.push(() => db.end())
  await db.connect()
  return db
}

// Of one instant: whose log it is, its partitions, how far the stream goes, what follows a place.
const LOOK = `
local leader, head = redis.call('HMGET', KEYS[2], 'log_id', 'partitions', 'format'), '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then head = info[i + 1] end end
end
return {leader[1] or '', leader[2] or '1', head, redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1]), leader[3] or '1'}`

class Redis {
  async open (url) {
    const at = url.startsWith('unix:') ? { socket: { path: new URL(url).pathname } } : { url }
    const client = createClient({ ...at, RESP: 2, socket: { ...at.socket, reconnectStrategy: false } })
    client.on('error', () => {})
    open.push(() => client.destroy())
    await client.connect()
    this.bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer }) // data may be anything
    return this
  }

  stream (p) { return p === 0 ? STREAM : `${STREAM}:${p}` }

  // in the same slot of a cluster
  beside (stream, what) { return stream.includes('{') ? `${stream}:${what}` : `{${stream}}:${what}` }

  async look (p, after) {
    const keys = [this.stream(p), this.beside(this.stream(p), 'leader')]
    const [logId, partitions, head, found, format] = await this.bytes.sendCommand(['EVAL', LOOK, '2', ...keys, `${after}-0`, `${MOST}`])
    check(Number(format))
    const records = (found?.[0][1] ?? []).map(([id, fields]) => {
      const record = { offset: parseInt(id) }
      for (let i = 0; i < fields.length; i += 2) {
        const name = `${fields[i]}`
        record[name] = name === 'data' ? fields[i + 1] : `${fields[i + 1]}`
      }
      return record
    })
    return { logId: `${logId}`, partitions: Number(partitions), head: parseInt(head), records }
  }

  async wait (at) {
    const entries = [...at]
    await this.bytes.sendCommand(['XREAD', 'COUNT', '1', 'BLOCK', '1000', 'STREAMS',
      ...entries.map(([p]) => this.stream(p)), ...entries.map(([, { offset }]) => `${offset}-0`)])
  }

  async report (at) {
    const values = [...at].flatMap(([p, { offset }]) => [`${p}/${NAME}`, `${offset}/${Date.now()}`])
    await this.bytes.sendCommand(['HSET', this.beside(STREAM, 'consumers'), ...values])
  }
}

// Source is the database in which records are staged: the archive and, with Postgres
// alone, the log.
class Source {
  async open (url) {
    this.db = await connect(url)
    const ear = await connect(url)
    ear.on('notification', () => this.wake?.())
    await ear.query('LISTEN "unilog:published"')
    return this
  }

  async head (p) {
    const { rows: [row] } = await this.db.query(`
      SELECT log_id::text, format, (SELECT count(*) FROM unilog.partitions) AS number,
        coalesce(next_offset - 1, 0) AS numbered, coalesce(published_offset, 0) AS published
      FROM unilog.log LEFT JOIN unilog.partitions ON partition = $1`, [p])
    check(row.format)
    return { logId: row.log_id, partitions: Number(row.number), numbered: Number(row.numbered), head: Number(row.published) }
  }

  async between (p, after, upTo) {
    const { rows } = await this.db.query('SELECT *, data::text AS json FROM unilog.records_between($1, $2, $3)',
      [p, after, Math.min(upTo, after + MOST)])
    return rows.map(r => ({ ...r, offset: Number(r.offset), data: r.body ?? r.json }))
  }

  async look (p, after) {
    const head = await this.head(p) // first: what is numbered meanwhile is not for readers yet
    return { ...head, records: await this.between(p, after, head.head) }
  }

  async wait () {
    await Promise.race([new Promise(resolve => { this.wake = resolve }), sleep(250)])
  }

  async report (at) {
    await this.db.query(`
      INSERT INTO unilog.readers (name, partition, "offset") SELECT $1, * FROM unnest($2::integer[], $3::bigint[])
      ON CONFLICT (name, partition) DO UPDATE SET "offset" = excluded."offset", reported_at = excluded.reported_at`,
    [NAME, [...at.keys()], [...at.values()].map(({ offset }) => offset)])
  }
}

class Consumer {
  async open () {
    this.db = await connect(DATABASE_URL)
    await this.db.query(TABLE)
    this.source = SOURCE_URL ? await new Source().open(SOURCE_URL) : null
    this.log = LOG_URL === 'postgres:' ? this.source : await new Redis().open(LOG_URL)
    this.reports = SOURCE_URL !== DATABASE_URL
    Object.assign(this, { partitions: 1, seen: 0, told: 0 })
    return this
  }

  // checkpoints registers new partitions, and shows that the consumer is alive.
  async checkpoints () {
    const { rows } = await this.db.query(
      'SELECT partition, "offset", log_id FROM unilog.checkpoints WHERE name = $1 ORDER BY partition', [NAME])
    const at = new Map(rows.map(r => [r.partition, { offset: Number(r.offset), known: r.log_id }]))
    if (at.size < this.seen) throw new Halt('its checkpoints are gone: was it forgotten, or its database restored?')
    this.seen = at.size
    if (at.size < this.partitions) {
      await this.db.query(`
        INSERT INTO unilog.checkpoints (name, partition) SELECT $1, p FROM generate_series(0, $2::int - 1) AS p
        ON CONFLICT DO NOTHING`, [NAME, this.partitions])
      return this.checkpoints()
    }
    if (Date.now() - this.told > 1000) {
      this.told = Date.now()
      await this.db.query(`
        UPDATE unilog.checkpoints SET updated_at = clock_timestamp()
        WHERE name = $1 AND updated_at < clock_timestamp() - interval '15 s'`, [NAME])
      if (this.reports) await this.log.report(at)
    }
    return at
  }

  async round () {
    const at = await this.checkpoints()
    let progress = false
    for (const p of at.keys()) if (await this.step(p, at)) progress = true
    if (!progress) {
      if (this.waited) await sleep(20) // at a barrier there is something to read, and nothing to do
      await this.log.wait(at)
    }
    this.waited = !progress
  }

  // step applies what is next in a partition, and returns whether there was something.
  async step (p, at) {
    const { offset, known } = at.get(p)
    let { logId, partitions, head, records } = await this.log.look(p, offset)
    if (!logId) return false // emptied, and not claimed since
    if (known && known !== logId) {
      throw new Halt(`partition ${p} is of log ${logId}, the checkpoint of ${known}: give it the log that it read so far, or another name`)
    }
    this.partitions = Math.max(this.partitions, partitions)
    const upTo = records.length > 0 ? records[0].offset - 1 : head
    if (upTo !== offset) records = await this.fill(p, offset, logId, upTo)
    records = records.filter((r, i) => r.offset === offset + 1 + i)
    const mark = records.findIndex(r => r.object === 'unilog')
    const batch = mark < 0 ? records : records.slice(0, Math.max(mark, 1))
    if (batch.length === 0 || !this.mayPass(batch[0], at)) return false
    await this.save(p, offset, logId, batch)
    return true
  }

  // mayPass says whether all partitions have come to a barrier.
  mayPass (record, at) {
    if (record.object !== 'unilog' || record.action !== 'repartition') return true
    const { offsets } = JSON.parse(record.data)
    return offsets.every((barrier, p) => (at.get(p)?.offset ?? 0) >= barrier - 1)
  }

  // fill returns the records after offset that the log does not hold any more.
  async fill (p, offset, logId, upTo) {
    if (!this.source) {
      if (upTo <= offset) return []
      throw new Halt(`the log has dropped records ${offset + 1} to ${upTo} of partition ${p}: set SOURCE_URL to the database they were staged in`)
    }
    const source = await this.source.head(p)
    if (source.logId !== logId) throw new Halt(`SOURCE_URL is the database of log ${source.logId}, and LOG_URL has log ${logId}`)
    if (source.numbered < offset) {
      throw new Halt(`the checkpoint of partition ${p} is ${offset}, its source only at ${source.numbered}: was it restored?`)
    }
    const records = await this.source.between(p, offset, upTo)
    if (offset < Math.min(upTo, source.numbered) && records[0]?.offset !== offset + 1) {
      throw new Halt(`neither the log nor the archive has record ${offset + 1} of partition ${p}`)
    }
    return records
  }

  async save (p, offset, logId, batch) {
    let current
    await this.db.query('BEGIN')
    try {
      const moved = await this.db.query(`
        UPDATE unilog.checkpoints SET "offset" = $1, position = '', log_id = $2, updated_at = clock_timestamp()
        WHERE name = $3 AND partition = $4 AND "offset" = $5`, [batch.at(-1).offset, logId, NAME, p, offset])
      if (moved.rowCount !== 1) return await this.db.query('ROLLBACK') // somebody else has moved it: read it again
      for (current of batch) if (current.object !== 'unilog') await apply(this.db, current)
      await this.db.query('COMMIT')
    } catch (e) {
      await this.db.query('ROLLBACK') // after a lost connection this fails, and all is tried again
      if (!current || (e.code && !/^2[23]/.test(e.code))) throw e // it is not about the record
      throw new Halt(`record ${current.offset} of partition ${p} was rejected: ${e.message}`)
    }
  }
}

if (!DATABASE_URL || !LOG_URL || (LOG_URL === 'postgres:' && !SOURCE_URL)) {
  console.error('set DATABASE_URL and LOG_URL, and SOURCE_URL if LOG_URL is postgres: see README.md')
  process.exit(1)
}
for (;;) {
  try {
    const consumer = await new Consumer().open()
    for (;;) await consumer.round()
  } catch (e) {
    const line = e.message.replace(/\s+/g, ' ')
    if (e instanceof Halt) {
      console.error(`${NAME} halts: ${line}`)
      process.exit(1)
    }
    console.error(`${NAME}: trying again: ${line}`)
    await Promise.allSettled(open.splice(0).map(async close => close()))
    await sleep(1000)
  }
}
