package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog/internal/postgres"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	for says, err := range map[string]error{
		"raise max_connections":      &pgconn.PgError{Code: "53300"},
		": Check free disk space.":   &pgconn.PgError{Code: "53100", Hint: "Check free disk space."},
		"raise this process's limit": &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)},
	} {
		wrapped := fmt.Errorf("append: %w", err)
		if got := postgres.Explain(wrapped); !errors.Is(got, err) || !strings.Contains(got.Error(), says) {
			t.Errorf("%v is explained by %q; want %q", err, got, says)
		}
	}
	for _, err := range []error{nil, context.Canceled, &pgconn.PgError{Code: "53200"}, &pgconn.PgError{Code: "40001", Hint: "Retry."}} {
		if got := postgres.Explain(err); got != err { //nolint:errorlint // the same one
			t.Errorf("%v became %v", err, got)
		}
	}
}

// TestPatiently waits for what may come, and no longer than it may.
func TestPatiently(t *testing.T) {
	t.Parallel()
	for _, scarce := range []error{&pgconn.PgError{Code: "53300"}, syscall.EMFILE} {
		calls := 0
		err := postgres.Patiently(t.Context(), func(context.Context) error {
			if calls++; calls < 3 {
				return scarce
			}
			return nil
		})
		if err != nil || calls != 3 {
			t.Errorf("%v: %d calls, %v", scarce, calls, err)
		}
		over, cancel := context.WithCancel(t.Context())
		cancel()
		if err := postgres.Patiently(over, func(context.Context) error { return scarce }); !errors.Is(err, scarce) {
			t.Errorf("when its time is over it returns %v; want %v", err, scarce)
		}
	}
}
