package doctor

import (
	"fmt"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestRedisSettings(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "log", migrateLog)
	for name, c := range map[string]struct {
		args  []string
		check string
		level Level
	}{
		"evicts anything":           {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, "maxmemory-policy", Unsafe},
		"evicts what expires":       {[]string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"}, "maxmemory-policy", Advice},
		"would evict":               {[]string{"--maxmemory-policy", "allkeys-lru"}, "maxmemory-policy", Advice},
		"refuses when full":         {[]string{"--maxmemory", "100mb"}, "maxmemory-policy", OK},
		"keeps nothing":             {[]string{"--appendonly", "no"}, "appendonly", Advice},
		"never syncs":               {[]string{"--appendfsync", "no"}, "appendfsync", Advice},
		"syncs each second":         {[]string{"--appendfsync", "everysec"}, "appendfsync", OK},
		"forbids CONFIG":            {[]string{"--rename-command", "CONFIG", ""}, "appendfsync", Advice},
		"forbids CONFIG, tells all": {[]string{"--rename-command", "CONFIG", "", "--appendonly", "no"}, "appendonly", Advice},
		"forbids INFO":              {[]string{"--rename-command", "INFO", ""}, "redis", Advice},
		"takes too little":          {[]string{"--proto-max-bulk-len", "2mb"}, "proto-max-bulk-len", Unsafe},
		"reads too little":          {[]string{"--client-query-buffer-limit", "2mb"}, "client-query-buffer-limit", Unsafe},
		"gives no large record":     {[]string{"--client-output-buffer-limit", "normal 2mb 0 0"}, "client-output-buffer-limit", Unsafe},
		"gives none for long":       {[]string{"--client-output-buffer-limit", "normal 0 2mb 10"}, "client-output-buffer-limit", Unsafe},
		"gives few at once":         {[]string{"--client-output-buffer-limit", "normal 16mb 0 0"}, "client-output-buffer-limit", Advice},
		"gives replicas less":       {[]string{"--client-output-buffer-limit", "replica 1mb 1mb 1"}, "client-output-buffer-limit", OK},
		"forbids TIME":              {[]string{"--rename-command", "TIME", ""}, "clock of Redis", Advice},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := testenv.RedisClient(t, testenv.Redis(t, c.args...).URL())
			want(t, examine(t, db, redis)[c.check], c.level)
		})
	}
}

// What a Redis here answers, but for its version.
func TestRedisVersion(t *testing.T) {
	t.Parallel()
	redis := testenv.RedisClient(t, testenv.SharedRedis(t))
	text, err := redis.Do(t.Context(), redis.B().Info().Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	for version, level := range map[string]Level{
		"": Unsafe, "5.0.14": Unsafe, "6.0.16": Unsafe, "6.2.0": OK, "7.2.4": OK, "10.0.0": OK,
		parseInfo(text)["redis_version"]: OK,
	} {
		info := parseInfo(text)
		delete(info, "valkey_version")
		info["redis_version"] = version
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			want(t, judgeRedis(info)[0], level)
		})
	}
}

// What a Valkey 8.1 tells of itself.
func TestValkeyVersion(t *testing.T) {
	t.Parallel()
	f := judgeRedis(parseInfo("# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\nvalkey_release_stage:ga\r\n"))[0]
	if want(t, f, OK); f.Found != "Valkey is version 8.1.1" {
		t.Errorf("it says %q", f.Found)
	}
}
