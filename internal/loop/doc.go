// Package loop has what the long-running loops share: waits that a context can cut,
// growing pauses between attempts, bounds of calls, readiness, and the signals that end them.
package loop
