package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/rocketrides/unilog/internal/private"
)

// check finds what would keep us from running, before anything has started.
func check(ctx context.Context, cfg Config, dir *dataDir) error {
	if cfg.DatabaseURL == "" {
		o := private.Options{Dir: dir.server("postgres")}
		if cfg.Fresh {
			o.Dir = "" // whatever there is goes
		}
		err := private.CheckPostgres(ctx, o)
		if v := new(private.VersionError); errors.As(err, &v) {
			return fmt.Errorf("%s was made by Postgres %s, but Postgres %s is installed: install Postgres %s, or start afresh with --fresh",
				dir.path, v.Made, strings.Join(v.Installed, ", "), v.Made)
		}
		if err != nil {
			return err
		}
	}
	if cfg.RedisURL == "" {
		if err := private.CheckRedis(private.Options{}); err != nil {
			return err
		}
	}
	if cfg.DashboardPort > 0 {
		if err := checkPort(ctx, cfg.DashboardPort, "--dashboard-port"); err != nil {
			return err
		}
	}
	return checkPort(ctx, cfg.Port, "--port")
}

// checkPort takes the port that a flag gives to a process, as that will, and
// gives it back.
func checkPort(ctx context.Context, port int, flag string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d is in use: stop what listens there, or choose another with %s", port, flag)
	}
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return l.Close()
}
