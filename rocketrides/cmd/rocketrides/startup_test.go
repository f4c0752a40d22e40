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

	"github.com/jackc/pgx/v5"

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

// TestSessionsEndWhileAConsumerStarts ends those of one that registers.
func TestSessionsEndWhileAConsumerStarts(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
	var ended int
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(t.Context(), `LOCK TABLE consumer_states IN ACCESS EXCLUSIVE MODE`); err != nil {
			return err
		}
		p := start(t, env, "consumer", "c")
		t.Cleanup(func() { p.stop() })
		await.True(t, "a session of the consumer to wait for the lock", func() bool {
			err := pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_locks
				WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND NOT granted`).Scan(&ended)
			if err != nil {
				t.Fatal(err)
			}
			return ended > 0
		})
		return nil
	})
	if err != nil || ended == 0 {
		t.Fatalf("%d sessions were ended, %v", ended, err)
	}
	await.True(t, "the consumer to be registered and to show life", func() bool {
		var is bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM consumer_states WHERE name = 'c') AND EXISTS (SELECT FROM unilog.members WHERE name = 'c')`).Scan(&is)
		if err != nil {
			t.Fatal(err)
		}
		return is
	})
}

// A process waits for servers that come up after it, and says so: it is alive and not
// ready.
func TestServersThatComeUpLater(t *testing.T) {
	t.Parallel()
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
					r, err := http.Get("http://" + admin + path)
					if err != nil {
						t.Fatal(err)
					}
					_ = r.Body.Close()
					if r.StatusCode != code {
						t.Errorf("%s answers %s", path, r.Status)
					}
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
