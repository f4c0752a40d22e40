package doctor

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/redislog"
)

// minRedis has XTRIM MINID.
const minRedisMajor, minRedisMinor = 6, 2

const (
	whySettings    = "if Redis may evict keys it drops the log, and without persistence it restarts empty"
	whyPersistence = "what Redis loses in a crash is published again from the archive, and consumers wait meanwhile"
)

// examineRedis goes by INFO, which managed servers allow, where CONFIG, which
// many forbid, is not needed. Redis's own errors are refusals.
func examineRedis(ctx context.Context, redis rueidis.Client) ([]Finding, error) {
	text, err := redis.Do(ctx, redis.B().Info().Build()).ToString()
	if _, refused := rueidis.IsRedisErr(err); refused {
		return []Finding{unseen("redis", "Redis's version, maxmemory-policy and appendonly", err, whySettings,
			"allow INFO to this user, or see to noeviction and appendonly yourself", Streamer, Consumer)}, nil
	}
	if err != nil {
		return nil, err
	}
	return judgeRedis(parseInfo(text)), nil
}

// examineLimits looks at what only CONFIG tells, and at the clock.
func examineLimits(ctx context.Context, redis rueidis.Client, postgres clock) ([]Finding, error) {
	findings, err := examineConfig(ctx, redis)
	if err != nil {
		return nil, err
	}
	clock, err := readRedisClock(ctx, redis)
	if _, refused := rueidis.IsRedisErr(err); refused {
		return append(findings, unseen("clock of Redis", "the clock of Redis", err, "it only matters to people who compare logs", "allow TIME to this user")), nil
	}
	return append(findings, judgeRedisClock(clock, postgres)), err
}

func examineConfig(ctx context.Context, redis rueidis.Client) ([]Finding, error) {
	config := map[string]string{}
	for _, name := range []string{"appendfsync", bulkLimit, queryLimit, replyLimit} { // Redis 6 takes one at a time
		found, err := redis.Do(ctx, redis.B().ConfigGet().Parameter(name).Build()).AsStrMap()
		if _, refused := rueidis.IsRedisErr(err); refused {
			return []Finding{unseen("appendfsync", "appendfsync", err, whyPersistence,
				"see to it in the settings of whoever runs this Redis: everysec or always", Streamer)}, nil
		}
		if err != nil {
			return nil, err
		}
		config[name] = found[name]
	}
	return []Finding{
		judgeAppendFsync(config["appendfsync"]),
		judgeCommandLimit(bulkLimit, config[bulkLimit]), judgeCommandLimit(queryLimit, config[queryLimit]),
		judgeReplyLimit(config[replyLimit]),
	}, nil
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
	findings := []Finding{judgeRedisVersion(info), judgeEviction(info["maxmemory"], info["maxmemory_policy"])}
	level, appendonly := OK, "yes"
	if info["aof_enabled"] != "1" {
		level, appendonly = Advice, "no"
	}
	return append(findings, about("appendonly", level, "appendonly is "+appendonly, whyPersistence, "set appendonly yes", Streamer))
}

// judgeRedisVersion also takes Valkey, which tells the version of Redis that it is
// compatible with beside its own.
func judgeRedisVersion(info map[string]string) Finding {
	server, version := "Redis", info["redis_version"]
	if own := info["valkey_version"]; own != "" {
		server, version = "Valkey", own
	}
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	level := OK
	if err != nil || major < minRedisMajor || major == minRedisMajor && minor < minRedisMinor {
		level = Unsafe
	}
	return about("redis", level, server+" is version "+version,
		fmt.Sprintf("Redis %d.%d or later, or Valkey, is needed", minRedisMajor, minRedisMinor), "upgrade it, or take Valkey", Streamer, Consumer)
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

const (
	bulkLimit  = "proto-max-bulk-len"
	queryLimit = "client-query-buffer-limit"
	replyLimit = "client-output-buffer-limit"
)

// judgeCommandLimit is about what a client may send.
func judgeCommandLimit(name, value string) Finding {
	level := OK
	if n, err := strconv.ParseInt(value, 10, 64); err == nil && n < redislog.CommandBytes {
		level = Unsafe
	}
	return about(name, level, name+" is "+value, "what a streamer sends at once must fit, or else its partition stops",
		fmt.Sprintf("set it to %d or more", redislog.CommandBytes), Streamer)
}

// judgeReplyLimit is about what a client may be sent. The value is class, hard limit,
// soft limit and seconds, for each class.
func judgeReplyLimit(value string) Finding {
	level, found := OK, ""
	words := strings.Fields(value)
	for i := 0; i+3 < len(words); i += 4 {
		if words[i] != "normal" {
			continue
		}
		found = strings.Join(words[i:i+4], " ")
		for _, limit := range words[i+1 : i+3] {
			switch n, err := strconv.ParseInt(limit, 10, 64); {
			case err != nil || n == 0:
			case n < redislog.EntryBytes:
				level = Unsafe
			case n < redislog.ReplyBytes && level == OK:
				level = Advice
			}
		}
	}
	return about(replyLimit, level, replyLimit+" is "+found,
		"Redis ends the connection of a reader in place of a reply that is larger, and the reader then asks for less, or reads the archive",
		"set "+replyLimit+" normal 0 0 0", Streamer, Consumer)
}
