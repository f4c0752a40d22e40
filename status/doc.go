// Package status reads where everything stands, what is stuck and why: how much is
// staged, how far each partition is numbered and published, who leads it, how far
// each consumer and deliverer has come, and what holds retention back. It only reads.
package status
