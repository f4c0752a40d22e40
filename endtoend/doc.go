// Package endtoend has the tests of what no package keeps by itself: writers, the
// streamer, a real log and consumers, together, while one of them fails. Each file is
// named by what its tests show.
package endtoend
