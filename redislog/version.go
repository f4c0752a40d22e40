package redislog

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/redis/rueidis"
)

// minMajor and minMinor have XTRIM MINID, and ranges without their first entry.
const minMajor, minMinor = 6, 2

var versionInInfo = regexp.MustCompile(`(?m)^redis_version:(\S+)`)

// checkVersion returns an error if Redis is too old, as it greets: HELLO needs no right.
// Redis 5 has none, and Redis 6.0 wants an argument. What greets in another way may have
// all that matters.
func (l *Log) checkVersion(ctx context.Context) error {
	greeting, err := l.client.Do(ctx, l.client.B().Hello().Build()).AsMap()
	if refused, ok := rueidis.IsRedisErr(err); ok {
		info, _ := l.client.Do(ctx, l.client.B().Info().Section("server").Build()).ToString()
		return judgeRefusal(refused.Error(), info)
	}
	if err != nil {
		return fmt.Errorf("redislog: Redis does not answer: %w", err)
	}
	version := greeting["version"]
	text, err := version.ToString()
	if err != nil {
		return nil
	}
	return judgeVersion(text)
}

// judgeRefusal goes by INFO where HELLO was refused, and by the words where that was, too.
func judgeRefusal(words, info string) error {
	if m := versionInInfo.FindStringSubmatch(info); m != nil {
		return judgeVersion(m[1])
	}
	if strings.Contains(words, "wrong number of arguments") {
		return judgeVersion("6.0") // or its release candidates
	}
	return nil
}

// judgeVersion takes what tells no version for new enough.
func judgeVersion(version string) error {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err == nil && (major < minMajor || major == minMajor && minor < minMinor) {
		return fmt.Errorf("redislog: Redis is version %s, and %d.%d or later is needed, or Valkey: upgrade it, or connect to another server", version, minMajor, minMinor)
	}
	return nil
}
