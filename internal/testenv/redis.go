package testenv

import (
	"net/url"
	"testing"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/await"
)

// PatientRedis is a Redis's URL for who waits for its answers as long as tests do.
func PatientRedis(redisURL string) string {
	u, err := url.Parse(redisURL)
	if err != nil {
		panic(err) // a server's URL is one
	}
	q := u.Query()
	q.Set("dial_timeout", await.Patience.String())
	q.Set("write_timeout", await.Patience.String())
	u.RawQuery = q.Encode()
	return u.String()
}

// RedisClient is a test's own way to a Redis, which waits for its answers as long as tests
// do.
func RedisClient(t testing.TB, redisURL string) rueidis.Client {
	t.Helper()
	option, err := rueidis.ParseURL(PatientRedis(redisURL))
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}
