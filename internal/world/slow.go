package world

import (
	"context"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// TookTooLong says whether a call took longer than it may, by this process's clock or by
// the server's, which may be since the machine is slow.
func TookTooLong(err error) bool {
	switch postgres.SQLState(err) {
	case "57014", "55P03": // statement_timeout and lock_timeout
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// IsSlow says whether a call took too long, or came after one that did, and found the
// connection closed for that.
func IsSlow(err error) bool {
	var log *unilog.LogError
	return TookTooLong(err) || pgconn.SafeToRetry(err) || errors.Is(err, net.ErrClosed) && !errors.As(err, &log)
}

// Patiently calls what does a part of the work until it has had the time for it, and
// returns what the last call did. A session that was given up, or closed, may have its
// locks for a while, by which another one seems to lead.
func (w *World) Patiently(once func(context.Context) (int, error)) (n int, err error) {
	w.Helper()
	w.Await("a call to lead", func() string {
		if n, err = w.Timely(once); errors.Is(err, unilog.ErrStandby) {
			return err.Error()
		}
		return ""
	})
	return n, err
}

// Timely is Patiently for a call of which it is to be seen who leads.
func (w *World) Timely(once func(context.Context) (int, error)) (n int, err error) {
	w.Helper()
	w.Await("a call to have the time that it needs", func() string {
		if n, err = once(w.Ctx); IsSlow(err) {
			return err.Error()
		}
		return ""
	})
	return n, err
}
