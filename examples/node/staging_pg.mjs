// Places orders with pg: node staging_pg.mjs ID CENTS …

import pg from 'pg'

const STAGE = 'INSERT INTO unilog.staged_records (object, action, key, data) VALUES ($1, $2, $3, $4)'

async function place (db, id, cents) {
  await db.query('BEGIN')
  try {
    await db.query('INSERT INTO orders (id, cents) VALUES ($1, $2)', [id, cents])
    await db.query(STAGE, ['order', 'create', id, JSON.stringify({ cents })])
    if (cents < 0) throw new Error('an order costs something') // neither the order nor the record is there
    await db.query('COMMIT')
  } catch (e) {
    await db.query('ROLLBACK')
    throw e
  }
}

const db = new pg.Client({ connectionString: process.env.DATABASE_URL, client_encoding: 'UTF8' })
await db.connect() // of a pool, take one client for the whole transaction
const args = process.argv.slice(2)
while (args.length) await place(db, args.shift(), Number(args.shift()))
await db.end()
