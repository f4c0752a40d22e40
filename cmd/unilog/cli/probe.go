package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Probe asks a process whether it is alive. It has the settings of the process it asks, and so needs none of its own.
type Probe struct {
	AdminListen string `env:"ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Where the process answers operators."`
	// Otherwise is the address to ask if that is not set.
	Otherwise string        `kong:"-"`
	Timeout   time.Duration `default:"3s" help:"How long an answer may take."`
}

// Run fails unless /healthz answers 200.
func (c *Probe) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	addr := cmp.Or(c.AdminListen, c.Otherwise)
	if addr == "" {
		return errors.New("ADMIN_LISTEN is not set: set it, or --admin-listen, as the process has it")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return fmt.Errorf("--admin-listen is %q: it must be host:port: %w", c.AdminListen, err)
	}
	client := http.Client{Transport: new(http.Transport)} // no proxy
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not alive: see the process's log: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not alive: see the process's log: %s answers %s", req.URL, resp.Status)
	}
	return nil
}
