package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// probeCmd has the settings of the process it asks, and so needs none of its own.
type probeCmd struct {
	AdminListen string        `env:"ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Where the process answers operators."`
	Port        uint16        `env:"API_PORT" default:"5005" help:"Where the api answers everyone; asked if --admin-listen is not set."`
	Timeout     time.Duration `default:"3s" help:"How long an answer may take."`
}

// Run fails unless /healthz answers 200.
func (c *probeCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	addr := cmp.Or(c.AdminListen, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(c.Port))))
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
