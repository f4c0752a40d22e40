package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
)

// For starts a proxy on a free loopback port for the server that a URL names:
// postgres:// or postgresql:// with a host, or with a host parameter that is the
// directory of a unix socket; redis:// or unix://.
func For(serverURL string) (*Proxy, error) {
	u, err := url.Parse(serverURL)
	if err != nil {
		return nil, errors.New("proxy: the server's URL is not valid") // and may hold a password
	}
	target := u.Host
	query := u.Query()
	switch u.Scheme {
	case "postgres", "postgresql":
		port := cmp.Or(u.Port(), query.Get("port"), "5432")
		if dir := query.Get("host"); dir != "" {
			target = filepath.Join(dir, ".s.PGSQL."+port)
		} else if u.Port() == "" {
			target += ":" + port
		}
		query.Del("host")
		query.Del("port")
		if query.Get("sslmode") == "" {
			query.Set("sslmode", "disable") // the way to the proxy never leaves the machine
		}
		u.RawQuery = query.Encode()
	case "redis":
		if u.Port() == "" {
			target += ":6379"
		}
	case "unix":
		u.Scheme, target, u.Path = "redis", u.Path, ""
	default:
		return nil, fmt.Errorf("proxy: no server that it knows has a URL with %s://", u.Scheme)
	}
	p, err := Listen("127.0.0.1:0", target)
	if err != nil {
		return nil, err
	}
	u.Host = p.Addr()
	p.url = u.String()
	return p, nil
}

// URL is what a client connects with to the server of [For].
func (p *Proxy) URL() string { return p.url }
