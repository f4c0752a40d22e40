package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
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

// later is the URL of a server that comes up when up is called.
func later(t *testing.T, server string) (address string, up func()) {
	t.Helper()
	port := freePort(t)
	_, through := hole(t, server)
	u, err := url.Parse(through)
	if err != nil {
		t.Fatal(err)
	}
	there := u.Host
	u.Host = fmt.Sprintf("127.0.0.1:%d", port)
	return u.String(), func() {
		ln, err := net.Listen("tcp", u.Host)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		go func() {
			for {
				from, err := ln.Accept()
				if err != nil {
					return
				}
				to, err := net.Dial("tcp", there)
				if err != nil {
					_ = from.Close()
					return
				}
				go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
				go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
			}
		}()
	}
}

// TestConnectionLostAtTheStart cuts the connection on which a process asks for the servers'
// settings, or registers.
func TestConnectionLostAtTheStart(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	const settings = "current_setting('fsync')"
	for name, c := range map[string]struct{ command, at, says string }{
		"api":         {"api --port=0", settings, "api listens"},
		"streamer":    {"streamer", settings, "leading"},
		"consumer":    {"consumer c", settings, "fsync is off"},
		"registering": {"consumer d", "INSERT INTO consumer_states", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			way, url := hole(t, pool.Config().ConnString())
			cut := way.CutAt(proxy.ToServer, proxy.Containing(c.at))
			env := []string{"DATABASE_URL=" + url, "REDIS_URL=" + testenv.SharedRedis(t), "STREAM_NAME=" + testenv.StreamName(t)}
			p := start(t, env, strings.Fields(c.command)...)
			await.Receive(t, "the connection to be cut", cut)
			p.says("the connection was lost: trying again")
			if c.says != "" {
				p.says(c.says)
			} else {
				await.True(t, "the consumer to show life", func() (is bool) {
					if err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM unilog.members WHERE name = 'd')`).Scan(&is); err != nil {
						t.Fatal(err)
					}
					return is
				})
			}
			p.stop()
		})
	}
}

// A process waits for servers that come up after it, and says so: it is alive and not
// ready.
func TestServersThatComeUpLater(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	pool, _ := database(t)
	for command, says := range map[string]string{"api --port=0": "api listens", "streamer": "leading", "consumer c": "fsync is off", "dashboard": "dashboard listens"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			postgres, postgresUp := later(t, pool.Config().ConnString())
			redis, redisUp := later(t, testenv.SharedRedis(t))
			admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			env := []string{"DATABASE_URL=" + postgres, "REDIS_URL=" + redis, "STREAM_NAME=" + testenv.StreamName(t)}
			if command != "dashboard" {
				env = append(env, "ADMIN_LISTEN="+admin)
			}
			p := start(t, env, strings.Fields(command)...)
			const waits = "waiting for a server that is not up yet"
			p.says(waits, "Postgres")
			if command != "dashboard" {
				for path, code := range map[string]int{"/healthz": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
					answers(t, "http://"+admin+path, code, "")
				}
			}
			postgresUp()
			if command != "api --port=0" { // which needs no Redis
				p.says(waits, "Redis")
			}
			redisUp()
			p.says(says)
			p.stop()
		})
	}
}
