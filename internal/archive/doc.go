// Package archive reads and keeps the log of record: all that was numbered, in
// batches, a row for what one step of numbering gave to one partition. A log that has
// lost records gets them from here.
//
//	offsets of a partition   1 … 5000 | 5001 … 10000 | 10001 | 10002 | 10003 …
//	                           batch        batch        small ones, merged later
//
// Offsets have no gaps, so the batches of a partition follow each other directly; the
// first of them goes when nobody needs it any more.
package archive
