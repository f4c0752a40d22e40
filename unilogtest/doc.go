// Package unilogtest is for tests of writers and handlers, with a real Postgres and no
// other server:
//
//	db := unilogtest.Database(t)                        // a fresh one, with the log in it
//	tx := unilogtest.Begin(t, db)                       // rolled back at the end
//	unilogtest.RequireStaged(t, tx, want…)              // what a writer has staged in tx
//	err := unilogtest.Apply(ctx, tx, handler, records…) // what a handler makes of records
//	unilogtest.Drain(t, db, consumer.Config{…})         // all that is staged, to its consumers
//
// Everything is the log as it is in production: records are checked and stored by
// Postgres, numbered by a streamer, and applied by a consumer with its checkpoint. Nothing
// runs in the background, and nothing waits.
package unilogtest
