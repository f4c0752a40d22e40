package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/redisnodes"
	"github.com/rocketrides/unilog/internal/version"
)

// servers are a Postgres and a Redis that sync each commit to disk, for one run.
type servers struct {
	dir             string
	postgres, redis *private.Server
	admin           *pgx.Conn // with a database that nothing is measured on
	socket          string    // of Redis
	worlds          int
	// Those of part scale alone, started when it is.
	cluster *redisnodes.Nodes
	kafka   *kafka.Cluster
}

// serverTimeout bounds the start of both servers.
const serverTimeout = 2 * time.Minute

// startServers starts both in a temporary directory and makes the tables in
// their first database, of which the others are copies.
func startServers(ctx context.Context, migrate func(ctx context.Context, databaseURL string) error) (*servers, error) {
	dir, err := os.MkdirTemp("", "rocketrides-bench-")
	if err != nil {
		return nil, err
	}
	s := &servers{dir: dir}
	ctx, cancel := context.WithTimeout(ctx, serverTimeout)
	defer cancel()
	if err := s.start(ctx, migrate); err != nil {
		return nil, errors.Join(err, s.remove())
	}
	return s, nil
}

func (s *servers) start(ctx context.Context, migrate func(ctx context.Context, databaseURL string) error) (err error) {
	if err := os.Chmod(s.dir, 0o711); err != nil { // root's Postgres has to pass
		return err
	}
	if s.postgres, err = private.StartPostgres(ctx, private.Options{Dir: s.place("postgres"), Durable: true, Database: "rocketrides"}); err != nil {
		return err
	}
	if s.redis, err = private.StartRedis(ctx, private.Options{Dir: s.place("redis"), Durable: true}); err != nil {
		return err
	}
	option, err := rueidis.ParseURL(s.redis.URL())
	if err != nil {
		return err
	}
	s.socket = option.InitAddress[0]
	if err := migrate(ctx, s.postgres.URL()); err != nil {
		return err
	}
	s.admin, err = pgx.Connect(ctx, s.databaseURL("postgres"))
	return err
}

func (s *servers) place(name string) string { return filepath.Join(s.dir, name) }

func (s *servers) databaseURL(database string) string {
	u, err := url.Parse(s.postgres.URL())
	if err != nil {
		panic(err) // it is our own
	}
	u.Path = "/" + database
	return u.String()
}

// remove ends the servers and removes all that they kept.
func (s *servers) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	if s.admin != nil {
		errs = append(errs, s.admin.Close(ctx))
	}
	for _, server := range []*private.Server{s.postgres, s.redis} {
		if server != nil {
			// Nothing of theirs is kept, so there is nothing to end in order.
			server.Quit()
		}
	}
	if s.cluster != nil {
		errs = append(errs, s.cluster.Stop())
	}
	if s.kafka != nil {
		s.kafka.Kill()
	}
	for _, name := range []string{"postgres", "redis"} {
		errs = append(errs, private.Remove(ctx, s.place(name)))
	}
	return errors.Join(append(errs, os.RemoveAll(s.dir))...)
}

// redisInfo asks on a connection of its own, as a client that stays has
// commands of its own all the time.
func (s *servers) redisInfo(ctx context.Context) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(stopTimeout)); err != nil {
		return "", err
	}
	if _, err := conn.Write([]byte("INFO\r\n")); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	var size int
	if _, err := fmt.Fscanf(r, "$%d\r\n", &size); err != nil {
		return "", fmt.Errorf("read Redis's INFO: %w", err)
	}
	info := make([]byte, size)
	for n := 0; n < size; {
		m, err := r.Read(info[n:])
		if err != nil {
			return "", fmt.Errorf("read Redis's INFO: %w", err)
		}
		n += m
	}
	return string(info), nil
}

// field returns what follows a name and a colon at a line's beginning.
func field(text, name string) string {
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `\s*:[ \t]*(.*?)\r?$`).FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1]
}

// setting says where the figures are from.
func (s *servers) setting(ctx context.Context) (setting, error) {
	var postgres string
	if err := s.admin.QueryRow(ctx, `SHOW server_version`).Scan(&postgres); err != nil {
		return setting{}, err
	}
	info, err := s.redisInfo(ctx)
	if err != nil {
		return setting{}, err
	}
	redis := "Redis " + field(info, "redis_version")
	if valkey := field(info, "valkey_version"); valkey != "" {
		redis = "Valkey " + valkey
	}
	return setting{
		Machine:  machine(),
		Versions: fmt.Sprintf("%s, Postgres %s, %s", version.String("rocketrides"), postgres, redis),
		Command:  strings.Join(append([]string{"rocketrides"}, os.Args[1:]...), " "),
	}, nil
}

// machine describes this one as far as its system tells.
func machine() string {
	text := fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := field(string(b), "model name"); model != "" {
			text += " of " + model
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib float64
		if _, err := fmt.Sscanf(field(string(b), "MemTotal"), "%f kB", &kib); err == nil {
			text += fmt.Sprintf(", %.0f GiB of memory", kib/(1<<20))
		}
	}
	return text
}
