package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// answers waits until a URL answers with a status and a body that has a text.
func answers(t *testing.T, url string, status int, says string) {
	t.Helper()
	await.That(t, fmt.Sprintf("%s to answer %d with %q", url, status, says), func() string {
		resp, err := http.Get(url)
		if err != nil {
			return err.Error()
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != status || !strings.Contains(string(body), says) {
			return fmt.Sprint(resp.StatusCode, " ", string(body))
		}
		return ""
	})
}

// What halts a process does not end it: it stays, and says why.
func TestReadyz(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	// A checkpoint that its source has never reached.
	const ahead = `
		WITH own AS (INSERT INTO consumer_states (name, total_distance) VALUES ('c', 0))
		INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('c', 0, 9)`
	foreign := &unilog.Term{LogID: "another"}
	for name, c := range map[string]struct {
		args   []string
		sql    string
		claim  *unilog.Term // of the log, before the process begins
		status int
		says   string
	}{
		"streamer":        {[]string{"streamer"}, `SELECT`, nil, 200, `{"ready":true}`},
		"consumer":        {[]string{"consumer", "c"}, `SELECT`, nil, 200, `{"ready":true}`},
		"halted streamer": {[]string{"streamer"}, `SELECT`, foreign, 503, `{"ready":false,"reason":"claim the log: unilog: the log of partition 0 belongs to another database`},
		"halted consumer": {[]string{"consumer", "c"}, ahead, nil, 503, `{"ready":false,"reason":"unilog: the checkpoint of consumer c in partition 0 is 9`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, env := database(t)
			exec1(t, pool, c.sql)
			stream := testenv.StreamName(t)
			if c.claim != nil {
				log, err := redislog.Open(t.Context(), patient(testenv.SharedRedis(t)), stream)
				if err != nil {
					t.Fatal(err)
				}
				defer log.Close()
				if _, err := log.Claim(t.Context(), *c.claim); err != nil {
					t.Fatal(err)
				}
			}
			address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+stream, "ADMIN_LISTEN="+address)
			p := start(t, env, c.args...)
			p.says("admin listens", address)
			if c.status == 503 {
				p.says("halted until this is mended")
			}
			answers(t, "http://"+address+"/readyz", c.status, c.says)
			answers(t, "http://"+address+"/healthz", 200, `{"status":"ok"}`)
			p.stop()
		})
	}
	_, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t))
	execute(t, env, "streamer", "--admin-listen=127.0.0.1:x").fails(t, 1, "choose another address with --admin-listen")
}
