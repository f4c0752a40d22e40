package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// HasTooFewConnections says whether a server, a limit of the role or of the database, or
// that of this process's open files, allows no further connection.
func HasTooFewConnections(err error) bool {
	return SQLState(err) == "53300" || errors.Is(err, syscall.EMFILE)
}

// fewPause is the time between attempts to have a connection.
const fewPause = 20 * time.Millisecond

// Patiently calls f again as long as there are too few connections and ctx lasts. What f does
// by a pool that may have no further connection then waits for one of those that the pool has.
func Patiently(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := f(ctx)
		if !HasTooFewConnections(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-time.After(fewPause):
		}
	}
}

// scarcity adds to an error for want of something what to set.
func scarcity(err error) error {
	var refused *pgconn.PgError
	switch {
	case errors.Is(err, syscall.EMFILE):
		return fmt.Errorf("%w: raise this process's limit of open files, by ulimit -n or systemd's LimitNOFILE", err)
	case !errors.As(err, &refused) || !strings.HasPrefix(refused.Code, "53"):
		return err
	case HasTooFewConnections(err):
		return fmt.Errorf("%w: raise max_connections, or the CONNECTION LIMIT of the role or the database, or lower pool_max_conns of other processes", err)
	case refused.Hint != "": // it names max_locks_per_transaction, or the disk
		return fmt.Errorf("%w: %s", err, refused.Hint)
	}
	return err
}
