// Package reader reads one partition of a log, for a consumer or a deliverer. It
// is the one home of the rule that nobody passes over a record:
//
//	           checkpoint, log, archive
//	Load   ──▶ is the checkpoint, or the log, ahead of the source? ──▶ error
//	Next   ──▶ read the log after the checkpoint
//	           whose log is it? asked after the read ──▶ not ours: error
//	           drop what is not after the checkpoint
//	           does the first entry directly follow it?
//	             yes: return what follows without a hole
//	             no:  return it from the archive
//	                  nobody has it: read the checkpoint again;
//	                  still the same one: [unilog.GapError]
//	Advance ─▶ the owner has saved a new checkpoint
//	Forget ──▶ after any failure: what was read is dropped, too
//
// Where the checkpoint is, which log it belongs to, and what becomes of the
// entries is up to the reader's owner.
package reader
