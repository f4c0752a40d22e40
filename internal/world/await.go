package world

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog/internal/await"
)

// These are the helpers of package await for a world.

// Await waits until look returns "", which means that what has come about. Else look
// says what there is instead.
func (w *World) Await(what string, look func() (instead string)) {
	w.Helper()
	await.That(waiting{tb: w.TB}, what, look)
}

// AwaitEqual waits until get returns want.
func AwaitEqual[T comparable](w *World, what string, want T, get func() T) {
	w.Helper()
	w.Await(fmt.Sprintf("%s to be %#v", what, want), func() string {
		if got := get(); got != want {
			return fmt.Sprintf("%#v", got) // which says something in any case
		}
		return ""
	})
}

// AwaitQuery waits until a query selects want.
func AwaitQuery[T comparable](w *World, what string, want T, sql string, args ...any) {
	w.Helper()
	AwaitEqual(w, what, want, func() T { w.Helper(); return Query[T](w, sql, args...) })
}

// AwaitTrue waits until a query selects true.
func (w *World) AwaitTrue(what, sql string, args ...any) {
	w.Helper()
	AwaitQuery(w, what, true, sql, args...)
}

// AwaitTotal waits until a consumer has added up so much.
func (w *World) AwaitTotal(name, want string) {
	w.Helper()
	AwaitEqual(w, "the total of "+name, want, func() string { return w.Total(name) })
}

// AwaitEntries waits until the log has so many entries.
func (w *World) AwaitEntries(n int) {
	w.Helper()
	AwaitEqual(w, "the number of the log's entries", n, w.LogLength)
}

// AwaitPublished waits until the database knows of so many published records.
func (w *World) AwaitPublished(n int) {
	w.Helper()
	AwaitQuery(w, "the number of published records", n, `SELECT sum(published_offset)::int FROM unilog.partitions`)
}

// Receive waits for a channel's next value, or its end.
func Receive[T any](w *World, what string, from <-chan T) T {
	w.Helper()
	return await.Receive(waiting{tb: w.TB}, what, from)
}

// Ended waits until all of a group have ended, and wants no error.
func (w *World) Ended(what string, group interface{ Wait() error }) {
	w.Helper()
	done := make(chan error, 1)
	go func() { done <- group.Wait() }()
	w.Must(Receive(w, what+" to end", done))
}

// Attempt calls f again and again, with the bound of all waits, until it returns true.
// It may fail meanwhile.
func (w *World) Attempt(what string, f func(ctx context.Context) (done bool, err error)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Ctx, await.Patience)
	defer cancel()
	w.Await(what, func() string {
		done, err := f(ctx)
		if done {
			return ""
		}
		return fmt.Sprint("not yet, and the error is ", err)
	})
}
