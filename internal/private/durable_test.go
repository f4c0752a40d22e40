package private

import (
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

// TestDurableSettings sees that a durable server has on disk what it confirms,
// and that Redis drops nothing when it is full.
func TestDurableSettings(t *testing.T) {
	t.Parallel()
	postgres := run(t, StartPostgres, Options{Dir: filepath.Join(tempDir(t), "postgres"), Durable: true})
	conn, err := pgx.Connect(t.Context(), postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": ""} {
		var got string
		if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("Postgres: %s is %q, %v; want %q", name, got, err, want)
		}
	}

	redis := run(t, StartRedis, Options{Dir: filepath.Join(tempDir(t), "redis"), Durable: true})
	option, err := rueidis.ParseURL(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"} {
		got, err := client.Do(t.Context(), client.B().ConfigGet().Parameter(name).Build()).AsStrMap()
		if err != nil || got[name] != want {
			t.Errorf("Redis: %s is %q, %v; want %q", name, got[name], err, want)
		}
	}
}
