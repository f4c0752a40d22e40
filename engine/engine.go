// Package engine opens the log that a URL names, whichever engine it is in.
package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/kafkalog"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/switchlog"
)

// Open opens the log at a URL: kafka:// and kafka+tls://; postgres:, which is the
// archive of db itself; and what redislog takes, in a stream. ${NAME} in the URL is
// what the environment has of that name, so that a URL can be shown and stored
// without its password.
func Open(ctx context.Context, url, stream string, db *pgxpool.Pool) (switchlog.Engine, error) {
	url, err := expand(url)
	if err != nil {
		return nil, err
	}
	switch scheme, rest, _ := strings.Cut(url, ":"); {
	case strings.HasPrefix(scheme, "kafka"):
		return kafkalog.Open(ctx, url)
	case scheme == "postgres" && rest == "":
		return pglog.Open(ctx, db)
	case scheme == "postgres":
		return nil, errors.New("the log can only be in the database that DATABASE_URL names: write postgres: and no more")
	}
	return redislog.Open(ctx, url, stream)
}

// expand puts the environment's values into a URL.
func expand(url string) (string, error) {
	var missing []string
	out := ""
	for {
		before, rest, found := strings.Cut(url, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			break
		}
		value, ok := os.LookupEnv(name)
		if !ok {
			missing = append(missing, name)
		}
		out += before + value
		url = after
	}
	if len(missing) > 0 {
		return "", fmt.Errorf("the log's URL needs %s in the environment of each process", strings.Join(missing, " and "))
	}
	return out + url, nil
}

// HasPassword says whether a URL has a password in it, not one of the environment's.
func HasPassword(url string) bool {
	_, rest, _ := strings.Cut(url, "://")
	authority, _, _ := strings.Cut(rest, "/")
	at := strings.LastIndex(authority, "@")
	if at < 0 {
		return false
	}
	_, password, has := strings.Cut(authority[:at], ":")
	return has && password != "" && !(strings.HasPrefix(password, "${") && strings.HasSuffix(password, "}"))
}
