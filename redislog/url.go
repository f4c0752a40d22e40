package redislog

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/redis/rueidis"
)

// Errors about a URL do not quote it: it may hold a password.
var (
	errURL = errors.New("redislog: the Redis URL is not valid: it looks like redis://user:password@host:6379/0, rediss://…, unix:///path/redis.sock, redis+sentinel://user:password@host1:26379,host2:26379/mymaster/0 or redis+cluster://user:password@host1:6379,host2:6379")

	errMaster   = errors.New("redislog: the Redis URL lacks the master's name, by which the sentinels know it, as in redis+sentinel://host1:26379,host2:26379/mymaster")
	errDatabase = errors.New("redislog: the Redis URL has a database number, but a Redis Cluster has none but 0: leave it out")
)

// masterName is what Sentinel takes for one.
var masterName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// parseURL reads what the client has to know, and the URL's parameters. Which of
// the three sorts of client it will be is settled here.
func parseURL(redisURL string) (rueidis.ClientOption, url.Values, error) {
	scheme, rest, _ := strings.Cut(redisURL, "://")
	base, sort, _ := strings.Cut(scheme, "+")
	var addresses []string
	var master string
	switch {
	case sort == "":
	case base != "redis" && base != "rediss":
		return rueidis.ClientOption{}, nil, errURL
	default:
		var err error
		if redisURL, addresses, master, err = single(base, sort, rest); err != nil {
			return rueidis.ClientOption{}, nil, err
		}
	}
	option, err := rueidis.ParseURL(redisURL)
	if err != nil {
		return option, nil, errURL
	}
	u, err := url.Parse(redisURL)
	if err != nil {
		return option, nil, errURL
	}
	option.ForceSingleClient = sort == "" // what the URL names, and no cluster that it may be part of
	if sort == "" {
		return option, u.Query(), nil
	}
	if sort == "cluster" && option.SelectDB != 0 {
		return option, nil, errDatabase
	}
	option.InitAddress = addresses
	if option.TLSConfig != nil {
		option.TLSConfig.ServerName = "" // each server's certificate is for its own name
	}
	option.Sentinel = rueidis.SentinelOption{
		MasterSet: master,
		Username:  u.Query().Get("sentinel_user"),
		Password:  u.Query().Get("sentinel_password"),
		TLSConfig: option.TLSConfig,
	}
	return option, u.Query(), nil
}

// single makes a URL of one host of one that names several, which neither
// net/url nor the client take.
func single(base, sort, rest string) (redisURL string, addresses []string, master string, err error) {
	end := strings.IndexAny(rest+"/", "/?#")
	authority, rest := rest[:end], rest[end:]
	user, hosts := "", authority
	if at := strings.LastIndex(authority, "@"); at >= 0 {
		user, hosts = authority[:at+1], authority[at+1:]
	}
	port := map[string]string{"sentinel": "26379", "cluster": "6379"}[sort]
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("redis://" + host)
		if err != nil || u.Hostname() == "" || port == "" {
			return "", nil, "", errURL
		}
		addresses = append(addresses, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port)))
	}
	if sort == "sentinel" {
		end := strings.IndexAny(rest+"?", "?#")
		path, parameters := strings.TrimPrefix(rest[:end], "/"), rest[end:]
		master, path, _ = strings.Cut(path, "/")
		switch {
		case master == "":
			return "", nil, "", errMaster
		case !masterName.MatchString(master):
			return "", nil, "", errURL
		}
		rest = parameters
		if path != "" {
			rest = "/" + path + parameters
		}
	}
	return base + "://" + user + addresses[0] + rest, addresses, master, nil
}
