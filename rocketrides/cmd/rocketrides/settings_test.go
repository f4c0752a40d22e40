package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
)

// setAll sets what new sessions of a database begin with.
func setAll(t *testing.T, pool *pgxpool.Pool, settings ...string) {
	t.Helper()
	for _, setting := range settings {
		exec1(t, pool, "ALTER DATABASE "+pgx.Identifier{pool.Config().ConnConfig.Database}.Sanitize()+" SET "+setting)
	}
}

// TestRidesUnderOtherSettings books rides in databases that somebody has set up for
// something else, from the first migration to the audit.
func TestRidesUnderOtherSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"text": {`client_encoding = 'LATIN1'`, `bytea_output = 'escape'`, `quote_all_identifiers = on`, `lc_numeric = 'C'`},
		"SQL":  {`client_encoding = 'SQL_ASCII'`, `standard_conforming_strings = off`, `array_nulls = off`, `transform_null_equals = on`},
		"time": {`DateStyle = 'German'`, `IntervalStyle = 'sql_standard'`, `TimeZone = 'Asia/Kathmandu'`, `extra_float_digits = -15`},
		"transactions": {
			`default_transaction_isolation = 'serializable'`, `default_transaction_deferrable = on`, `DateStyle = 'SQL, DMY'`,
			`session_replication_role = replica`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, env := emptyDatabase(t)
			setAll(t, pool, settings...)
			rideEndToEnd(t, append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t)))
		})
	}
}

// rideEndToEnd migrates, books rides, and runs every command that looks at them.
func rideEndToEnd(t *testing.T, env []string) {
	t.Helper()
	run := func(args ...string) {
		t.Helper()
		if r := here(t.Context(), t, append(args, flagsOf(env[:1])...)...); r.code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
	}
	run("migrate")
	port := freePort(t)
	startHere(t, env[:1], "api", fmt.Sprintf("--port=%d", port), "--max-backlog=100")
	startHere(t, env, "streamer")
	startHere(t, env, "consumer", "bücher", "--bootstrap")
	for range 3 {
		await.True(t, "a ride to be booked", func() bool {
			answer, err := http.PostForm(fmt.Sprintf("http://127.0.0.1:%d/rides", port), url.Values{"distance": {"5.25"}})
			if err != nil {
				return false // it has yet to start
			}
			defer answer.Body.Close()
			return answer.StatusCode == http.StatusCreated
		})
	}
	run("verify", "bücher", untilCaughtUp)
	run("consumers", "list")
	run("deadletters", "list")
	if r := here(t.Context(), t, append([]string{"status"}, flagsOf(env)...)...); r.code != 0 {
		t.Errorf("status: %+v", r)
	}
	r := here(t.Context(), t, append([]string{"doctor"}, flagsOf(env)...)...)
	r.fails(t, 1, "2 of 25 findings are unsafe") // the shared server syncs nothing
	run("reconcile", "bücher")
}

// TestOtherEncodings sees that a database is refused that cannot hold each record, or
// does not say what its bytes mean.
func TestOtherEncodings(t *testing.T) {
	t.Parallel()
	admin, _ := emptyDatabase(t)
	for encoding, overridden := range map[string]bool{"LATIN1": true, "SQL_ASCII": false} {
		name := "other_" + strings.ToLower(encoding) + "_" + admin.Config().ConnConfig.Database
		exec1(t, admin, "CREATE DATABASE "+name+" ENCODING "+encoding+" TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
		t.Cleanup(func() {
			if err := postgres.WhenUnused(context.Background(), admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				t.Error(err)
			}
		})
		u, err := url.Parse(admin.Config().ConnString())
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		env := []string{"DATABASE_URL=" + u.String()}
		words := "the encoding of the database is " + encoding
		if !overridden {
			words = "SQL_ASCII, which lets any byte into a record"
		}
		here(t.Context(), t, append([]string{"migrate"}, flagsOf(env)...)...).fails(t, 1, words)
		r := here(t.Context(), t, append([]string{"migrate", "--allow-unsafe"}, flagsOf(env)...)...)
		if !overridden {
			r.fails(t, 1, words)
			continue
		}
		if r.code != 0 {
			t.Fatalf("migrate --allow-unsafe: %+v", r)
		}
		env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
		for _, args := range [][]string{{"streamer"}, {"consumer", "c"}, {"api", "--port=0"}} {
			list := env
			if args[0] == "api" {
				list = env[:1]
			}
			here(t.Context(), t, append(args, flagsOf(list)...)...).fails(t, 1, words)
		}
	}
}
