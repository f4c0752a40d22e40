package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

// minRedis has XTRIM MINID.
const minRedisMajor, minRedisMinor = 6, 2

const (
	whySettings    = "if Redis may evict keys it drops the log, and without persistence it restarts empty"
	whyPersistence = "what Redis loses in a crash is published again from the archive, and consumers wait meanwhile"
)

// examineRedis goes by INFO, which managed servers allow, where CONFIG, which
// many forbid, is not needed. Redis's own errors are refusals.
func examineRedis(ctx context.Context, redis rueidis.Client, postgres clock) ([]Finding, error) {
	var findings []Finding
	text, err := redis.Do(ctx, redis.B().Info().Build()).ToString()
	if _, refused := rueidis.IsRedisErr(err); refused {
		findings = append(findings, unseen("redis", "Redis's version, maxmemory-policy and appendonly", err, whySettings,
			"allow INFO to this user, or see to noeviction and appendonly yourself", Streamer, Consumer))
	} else if err != nil {
		return nil, err
	} else {
		findings = append(findings, judgeRedis(parseInfo(text))...)
	}

	config, err := redis.Do(ctx, redis.B().ConfigGet().Parameter("appendfsync").Build()).AsStrMap()
	if _, refused := rueidis.IsRedisErr(err); refused {
		findings = append(findings, unseen("appendfsync", "appendfsync", err, whyPersistence,
			"see to it in the settings of whoever runs this Redis: everysec or always", Streamer))
	} else if err != nil {
		return nil, err
	} else {
		findings = append(findings, judgeAppendFsync(config["appendfsync"]))
	}

	clock, err := readRedisClock(ctx, redis)
	if _, refused := rueidis.IsRedisErr(err); refused {
		return append(findings, unseen("clock of Redis", "the clock of Redis", err, "it only matters to people who compare logs", "allow TIME to this user")), nil
	}
	return append(findings, judgeRedisClock(clock, postgres)), err
}

// parseInfo reads lines such as name:value.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}

func judgeRedis(info map[string]string) []Finding {
	findings := []Finding{judgeRedisVersion(info["redis_version"]), judgeEviction(info["maxmemory"], info["maxmemory_policy"])}
	level, appendonly := OK, "yes"
	if info["aof_enabled"] != "1" {
		level, appendonly = Advice, "no"
	}
	return append(findings, about("appendonly", level, "appendonly is "+appendonly, whyPersistence, "set appendonly yes", Streamer))
}

// judgeRedisVersion also takes Valkey's, which tells the version of Redis that it
// is compatible with.
func judgeRedisVersion(version string) Finding {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	level := OK
	if err != nil || major < minRedisMajor || major == minRedisMajor && minor < minRedisMinor {
		level = Unsafe
	}
	return about("redis", level, "Redis is version "+version,
		fmt.Sprintf("%d.%d or later is needed", minRedisMajor, minRedisMinor), "upgrade it, or take Valkey", Streamer, Consumer)
}

// judgeEviction goes by what claim.lua refuses. The log never expires, so that
// volatile-* leaves it alone, until somebody sets an EXPIRE on it.
func judgeEviction(maxmemory, policy string) Finding {
	level, limit := Unsafe, "maxmemory is "+maxmemory
	switch {
	case policy == "noeviction":
		level = OK
	case maxmemory == "0":
		level, limit = Advice, "maxmemory is not set"
	case strings.HasPrefix(policy, "volatile-"):
		level = Advice
	}
	return about("maxmemory-policy", level, fmt.Sprintf("maxmemory-policy is %s, %s", policy, limit),
		"at its maxmemory Redis drops keys by any policy but noeviction, by allkeys-* the log too",
		"set maxmemory-policy noeviction", Streamer)
}

func judgeAppendFsync(value string) Finding {
	level := OK
	if value == "no" {
		level = Advice
	}
	return about("appendfsync", level, "appendfsync is "+value, whyPersistence, "set appendfsync everysec, or always", Streamer)
}
