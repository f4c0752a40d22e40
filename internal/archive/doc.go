// Package archive reads and keeps the table log_records, which holds every numbered
// record and is the log of record: what the log loses is taken from here. The table
// is split into chunks by offset, so that old records are dropped with their table.
package archive
