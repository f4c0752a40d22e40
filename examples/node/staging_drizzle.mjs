// Places orders with Drizzle: node staging_drizzle.mjs ID CENTS …

import pg from 'pg'
import { drizzle } from 'drizzle-orm/node-postgres'
import { bigint, jsonb, pgSchema, pgTable, text } from 'drizzle-orm/pg-core'

const stagedRecords = pgSchema('unilog').table('staged_records', {
  object: text('object').notNull(), action: text('action').notNull(), key: text('key').notNull(), data: jsonb('data').notNull()
})
const orders = pgTable('orders', { id: text('id').primaryKey(), cents: bigint('cents', { mode: 'number' }).notNull() })

async function place (db, id, cents) {
  await db.transaction(async tx => {
    await tx.insert(orders).values({ id, cents })
    await tx.insert(stagedRecords).values({ object: 'order', action: 'create', key: id, data: { cents } })
    if (cents < 0) throw new Error('an order costs something') // neither the order nor the record is there
  })
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, client_encoding: 'UTF8' })
const args = process.argv.slice(2)
while (args.length) await place(drizzle(pool), args.shift(), Number(args.shift()))
await pool.end()
