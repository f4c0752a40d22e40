package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
)

// A process that is told to end while it starts has nothing to complain of.
func TestToldToEndAtTheStart(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	redis := "REDIS_URL=" + testenv.SharedRedis(t)
	for c, at := range map[string]string{
		"api --port=0": "to_regclass", "streamer": "", "consumer c": "to_regclass", "dashboard": "", "status --watch --json": "to_regclass",
	} {
		t.Run(c, func(t *testing.T) {
			t.Parallel()
			p, url := hole(t, pool.Config().ConnString())
			silent := p.BlackholeAt(proxy.ToServer, proxy.Containing(at), proxy.Both)
			process := start(t, []string{"DATABASE_URL=" + url + "&connect_timeout=300", redis}, strings.Fields(c)...)
			await.Receive(t, "Postgres to be silent", silent)
			if said := process.stop(); said != "" {
				t.Errorf("it said %s", said)
			}
		})
	}
	p, url := hole(t, pool.Config().ConnString())
	silent := p.BlackholeAt(proxy.ToServer, proxy.Containing("to_regclass"), proxy.Both)
	process := start(t, []string{"DATABASE_URL=" + url + "&connect_timeout=300"}, "verify")
	await.Receive(t, "Postgres to be silent", silent)
	if err := process.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said := process.rest(); said != "rocketrides: interrupted before it was done: run it again\n" {
		t.Errorf("verify said %s", said)
	}
}
