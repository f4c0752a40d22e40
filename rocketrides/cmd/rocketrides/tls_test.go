package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// with returns a URL with parameters of its query changed, or, if they are
// empty, left out.
func with(t *testing.T, serverURL string, change map[string]string) string {
	t.Helper()
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for name, value := range change {
		query.Set(name, value)
		if value == "" {
			query.Del(name)
		}
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// TestPostgresRefusedOverTLS sees that each command says in one line what is
// wrong, and never the password.
func TestPostgresRefusedOverTLS(t *testing.T) {
	t.Parallel()
	_, authority, databaseURL := testenv.TLSPostgres(t)
	stranger := testenv.NewAuthority(t)
	strangerCert, strangerKey := stranger.Issue("postgres")
	otherCert, otherKey := authority.Issue("somebody-else")
	refused := func(name, command, databaseURL, says string, code int) {
		r := here(t.Context(), t, append(strings.Fields(command), "--database-url="+databaseURL)...)
		if r.code != code || !strings.Contains(r.err, says) || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s, %s: exit code %d, want %d; stderr, want one line with %q:\n%s", name, command, r.code, code, says, r.err)
		}
		for _, secret := range []string{testenv.TLSPassword, url.QueryEscape(testenv.TLSPassword), url.PathEscape(testenv.TLSPassword)} {
			if strings.Contains(r.err, secret) {
				t.Errorf("%s, %s: it says the password:\n%s", name, command, r.err)
			}
		}
	}
	var commands sync.WaitGroup
	for _, c := range silences {
		commands.Go(func() {
			refused("a wrong authority", c.command, with(t, databaseURL, map[string]string{"sslrootcert": stranger.File}),
				"certificate signed by unknown authority", c.code)
		})
	}
	for name, c := range map[string]struct {
		change map[string]string
		says   string
	}{
		"another host":          {map[string]string{"host": "localhost"}, "wanted to match localhost"},
		"no client certificate": {map[string]string{"sslcert": "", "sslkey": ""}, "connection requires a valid client certificate"},
		// Postgres says why, but may have hung up before it is heard.
		"a stranger's certificate":     {map[string]string{"sslcert": strangerCert, "sslkey": strangerKey}, "no answer from Postgres; check DATABASE_URL"},
		"somebody else's certificate":  {map[string]string{"sslcert": otherCert, "sslkey": otherKey}, "authentication failed"},
		"no TLS":                       {map[string]string{"sslmode": "disable"}, "no encryption"},
		"a wrong password":             {map[string]string{"password": "guessed"}, "password authentication failed"},
		"no such authority":            {map[string]string{"sslrootcert": "/nowhere/ca"}, "open /nowhere/ca: no such file"},
		"an authority that is none":    {map[string]string{"sslrootcert": otherKey}, "unable to add CA to cert pool"},
		"a key without a certificate":  {map[string]string{"sslcert": ""}, `both "sslcert" and "sslkey" are required`},
		"a key that does not fit":      {map[string]string{"sslkey": otherKey}, "private key does not match public key"},
		"a mode that there is none of": {map[string]string{"sslmode": "verify"}, "sslmode is invalid"},
	} {
		commands.Go(func() { refused(name, "status", with(t, databaseURL, c.change), c.says, 1) })
	}
	commands.Wait()
}

func TestHalfOfATLSPair(t *testing.T) {
	t.Parallel()
	for _, half := range []string{"--tls-cert=cert", "--tls-key=key"} {
		here(t.Context(), t, "api", half).fails(t, cli.ExitUsage, "--tls-cert and --tls-key go together")
	}
}

// TestEverythingOverTLS runs the whole system, in which no connection is
// anything but TLS.
func TestEverythingOverTLS(t *testing.T) {
	t.Parallel()
	server, authority, databaseURL := testenv.TLSPostgres(t)
	clientCert, clientKey := authority.Issue("client")
	apiCert, apiKey := authority.Issue("api", "127.0.0.1")
	port := freePort(t)
	env := []string{
		"DATABASE_URL=" + databaseURL,
		"REDIS_URL=" + with(t, "rediss://"+testenv.TLSRedis(t, authority),
			map[string]string{"cacert": authority.File, "cert": clientCert, "key": clientKey}),
		"API_TLS_CERT=" + apiCert, "API_TLS_KEY=" + apiKey,
		fmt.Sprintf("API_PORT=%d", port), fmt.Sprintf("API_URL=https://127.0.0.1:%d", port), "API_CA=" + authority.File,
	}
	succeeds := func(args ...string) {
		t.Helper()
		if r := execute(t, env, args...); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	succeeds("migrate")
	streamer := start(t, env, "streamer")
	streamer.says("leading")
	consumers := []*process{start(t, env, "consumer", "consumer0"), start(t, env, "consumer", "consumer1")}
	api := start(t, env, "api")
	api.says("api listens", "https://")

	db, err := pgxpool.New(t.Context(), server.URL()) // by a unix socket, to look on
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	client := trusting(t, authority.File)
	for ride := 1; ride <= 3; ride++ {
		await.That(t, "the leader to keep its session while it sleeps", func() string {
			before := epoch(t, db)
			asleep(t, db)
			if after := epoch(t, db); after != before {
				return fmt.Sprintf("epoch %d after %d", after, before) // also on a machine that paused
			}
			return ""
		})
		await.That(t, "an answer of the api", func() string {
			resp, err := client.PostForm(fmt.Sprintf("https://127.0.0.1:%d/rides", port), url.Values{"distance": {"2"}})
			if err != nil { // it hears no request that comes long after its connection
				return err.Error()
			}
			_ = resp.Body.Close()
			return ""
		})
		for _, c := range consumers {
			c.says("consumed", fmt.Sprintf("total_distance=%dm", 2*ride))
		}
	}
	succeeds("simulator", "--rate=200", "--for=1s")
	succeeds("verify", "consumer0", "consumer1", untilCaughtUp)
	for _, command := range []string{"reconcile consumer0", "status", "consumers list", "deadletters list"} {
		succeeds(strings.Fields(command)...)
	}
	api.terminate()
	streamer.terminate()
	for _, c := range consumers {
		c.terminate()
	}
}

// epoch is that of the latest leader.
func epoch(t *testing.T, db *pgxpool.Pool) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), `SELECT epoch FROM unilog.partitions`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// asleep waits until the streamer is asleep, has been silent for as long as it may
// be, and is asleep again.
func asleep(t *testing.T, db *pgxpool.Pool) {
	t.Helper()
	last := func() (at *time.Time) {
		// The lock with which the streamer that numbers sleeps.
		err := db.QueryRow(t.Context(), `
			SELECT max(state_change) FROM pg_stat_activity JOIN pg_locks AS sleep USING (pid)
			WHERE database = datid AND datname = current_database()
				AND classid = 'unilog.staged_records'::regclass AND objid = 0 AND mode = 'ExclusiveLock' AND granted`).Scan(&at)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	var before *time.Time
	await.True(t, "the streamer to sleep again", func() bool {
		after := last()
		if before == nil {
			before = after
		}
		return before != nil && after != nil && after.After(*before)
	})
}

// trusting returns a client that trusts an authority.
func trusting(t *testing.T, file string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: x509.NewCertPool()}}
	transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
