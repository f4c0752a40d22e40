package testenv

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private"
)

// TLSPassword is what TLSPostgres asks for besides a certificate.
const TLSPassword = "it's a secret, 100%"

// TLSPostgres starts a Postgres of the test's own that takes from the network
// none but the user postgres, by TLS, with TLSPassword and a certificate, and
// returns who issued the server's and the client's, and the URL of that user's.
func TLSPostgres(t testing.TB) (server *private.Server, authority *Authority, clientURL string) {
	t.Helper()
	port := freeport.Next()
	server = own(t, private.StartPostgres, private.Options{InitCache: initCache(), Port: port, ExtraArgs: []string{"-c", "listen_addresses=127.0.0.1"}})
	authority = NewAuthority(t)
	cert, key := authority.Issue("server", "127.0.0.1")
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	must := authority.must
	must(giveTo(filepath.Join(server.Options().Dir, "data"), map[string]string{
		"server.crt": cert, "server.key": key, "authority.crt": authority.File,
	}))
	conn, err := pgx.Connect(ctx, server.URL())
	must(err)
	defer conn.Close(ctx)
	for _, sql := range []string{
		`ALTER ROLE postgres PASSWORD '` + strings.ReplaceAll(TLSPassword, "'", "''") + `'`,
		`ALTER SYSTEM SET ssl_ca_file = 'authority.crt'`,
		`ALTER SYSTEM SET ssl = on`,
		`SELECT pg_reload_conf()`,
	} {
		_, err := conn.Exec(ctx, sql)
		must(err)
	}

	cert, key = authority.Issue("postgres") // verify-full: the user's name
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", TLSPassword),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: server.Options().Database,
		RawQuery: url.Values{
			"sslmode": {"verify-full"}, "sslrootcert": {authority.File}, "sslcert": {cert}, "sslkey": {key},
		}.Encode(),
	}
	await.That(t, "Postgres to load its configuration again", func() string {
		conn, err := pgx.Connect(ctx, u.String())
		if err != nil {
			return err.Error()
		}
		must(conn.Close(ctx))
		return ""
	})
	return server, authority, u.String()
}

// giveTo copies files into a Postgres's data, as its own, and lets in from the
// network whom TLSPostgres says.
func giveTo(data string, files map[string]string) error {
	info, err := os.Stat(data)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: its owner is not known", data)
	}
	for name, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(`
		local   all all              trust
		hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-full
	`), 0o600)
}

// TLSRedis starts a Redis of the test's own that takes from the network nobody
// without a certificate of the authority, and returns its address.
func TLSRedis(t testing.TB, authority *Authority, args ...string) (address string) {
	t.Helper()
	cert, key := authority.Issue("redis", "127.0.0.1")
	port := strconv.Itoa(freeport.Next())
	Redis(t, append([]string{
		"--bind", "127.0.0.1", "--tls-port", port, "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", authority.File, "--tls-cert-file", cert, "--tls-key-file", key,
	}, args...)...)
	return net.JoinHostPort("127.0.0.1", port)
}
