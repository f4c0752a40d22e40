package unilog_test

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog/internal/await"
)

// These are the helpers of package await for a world.

// await waits until look returns "", which means that what has come about. Else look
// says what there is instead.
func (w *world) await(what string, look func() (instead string)) {
	w.Helper()
	await.That(waiting{tb: w.tb}, what, look)
}

// awaitEqual waits until get returns want.
func awaitEqual[T comparable](w *world, what string, want T, get func() T) {
	w.Helper()
	w.await(fmt.Sprintf("%s to be %#v", what, want), func() string {
		if got := get(); got != want {
			return fmt.Sprintf("%#v", got) // which says something in any case
		}
		return ""
	})
}

// awaitQuery waits until a query selects want.
func awaitQuery[T comparable](w *world, what string, want T, sql string, args ...any) {
	w.Helper()
	awaitEqual(w, what, want, func() T { w.Helper(); return query[T](w, sql, args...) })
}

// awaitTrue waits until a query selects true.
func (w *world) awaitTrue(what, sql string, args ...any) {
	w.Helper()
	awaitQuery(w, what, true, sql, args...)
}

// awaitTotal waits until a consumer has added up so much.
func (w *world) awaitTotal(name, want string) {
	w.Helper()
	awaitEqual(w, "the total of "+name, want, func() string { return w.total(name) })
}

// streamLength is the number of the stream's entries.
func (w *world) streamLength() int {
	w.Helper()
	n, err := w.command("XLEN", w.stream).AsInt64()
	w.must(err)
	return int(n)
}

// awaitEntries waits until the stream has so many entries.
func (w *world) awaitEntries(n int) {
	w.Helper()
	awaitEqual(w, "the number of the stream's entries", n, w.streamLength)
}

// awaitPublished waits until the database knows of so many published records.
func (w *world) awaitPublished(n int) {
	w.Helper()
	awaitQuery(w, "the number of published records", n, `SELECT sum(published_offset)::int FROM log_partitions`)
}

// receive waits for a channel's next value, or its end.
func receive[T any](w *world, what string, from <-chan T) T {
	w.Helper()
	return await.Receive(waiting{tb: w.tb}, what, from)
}

// ended waits until all of a group have ended, and wants no error.
func (w *world) ended(what string, group interface{ Wait() error }) {
	w.Helper()
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	w.must(receive(w, what+" to end", done))
}

// attempt calls f again and again, with the bound of all waits, until it returns true.
// It may fail meanwhile.
func (w *world) attempt(what string, f func(ctx context.Context) (done bool, err error)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, await.Patience)
	defer cancel()
	w.await(what, func() string {
		done, err := f(ctx)
		if done {
			return ""
		}
		return fmt.Sprint("not yet, and the error is ", err)
	})
}
