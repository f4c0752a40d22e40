package up

import (
	"context"
	"net/url"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/private"
)

// urls are how to reach the servers.
type urls struct {
	database, redis             string
	attachDatabase, attachRedis string // for a person; no passwords
}

// startServers starts the private servers that are wanted, both at once, and
// keeps them running.
func (s *supervisor) startServers(ctx context.Context) (urls, error) {
	u := urls{
		database: s.cfg.DatabaseURL, attachDatabase: redacted(s.cfg.DatabaseURL),
		redis: s.cfg.RedisURL, attachRedis: redacted(s.cfg.RedisURL),
	}
	var postgres, redis *private.Server
	g, ctx := errgroup.WithContext(ctx)
	if u.database == "" {
		g.Go(func() (err error) {
			postgres, err = private.StartPostgres(ctx, s.options("postgres"))
			return err
		})
	}
	if u.redis == "" && !s.cfg.NoRedis {
		g.Go(func() (err error) {
			redis, err = private.StartRedis(ctx, s.options("redis"))
			return err
		})
	}
	err := g.Wait()
	if postgres != nil {
		u.database, u.attachDatabase = postgres.URL(), postgres.Attach()
		s.keepServer("postgres", postgres, private.StartPostgres)
	}
	if redis != nil {
		u.redis, u.attachRedis = redis.URL(), redis.Attach()
		s.keepServer("redis", redis, private.StartRedis)
	}
	return u, err
}

func (s *supervisor) options(name string) private.Options {
	return private.Options{Dir: s.dir.server(name), Durable: true, Database: "rocketrides"}
}

type starter = func(context.Context, private.Options) (*private.Server, error)

func (s *supervisor) keepServer(name string, server *private.Server, start starter) {
	t := &task{name: name, kind: name, say: s.out.say, start: func(ctx context.Context) (runner, error) {
		again, err := start(ctx, server.Options())
		if err != nil {
			return nil, err
		}
		if name == "redis" && !s.isCut(nil) {
			s.setCut(nil)
			s.happened(name, "restored", "redis can be reached again, as it was started again")
		}
		return again, nil
	}}
	t.report = func(kind, text string) {
		if kind == "started" && t.state().Restarts > 0 {
			s.out.say("%s answers again", name)
		}
		s.happened(name, kind, text)
	}
	s.mu.Lock()
	s.servers = append(s.servers, t)
	s.mu.Unlock()
	t.keep(server)
}

// redacted shows a URL without its secrets, and nothing of what is no URL.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme == "" {
		return "(set in the environment)"
	}
	if u.RawQuery != "" || u.Fragment != "" { // may hold a password, too
		u.RawQuery, u.Fragment = "", ""
		return u.Redacted() + "?…"
	}
	return u.Redacted()
}
