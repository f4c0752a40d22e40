package testenv

import (
	"testing"

	"github.com/redis/rueidis"
)

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
