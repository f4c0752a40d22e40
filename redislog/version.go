package redislog

import (
	"context"
	"fmt"

	"github.com/redis/rueidis"
)

// minMajor and minMinor have XTRIM MINID, and ranges without their first entry.
const minMajor, minMinor = 6, 2

// checkVersion returns an error if Redis is too old, as it greets. HELLO needs no right.
func (l *Log) checkVersion(ctx context.Context) error {
	greeting, err := l.client.Do(ctx, l.client.B().Hello().Build()).AsMap()
	if _, refused := rueidis.IsRedisErr(err); refused {
		return nil // what does not know it may have all that matters
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

// judgeVersion takes what tells no version for new enough.
func judgeVersion(version string) error {
	var major, minor int
	_, err := fmt.Sscanf(version, "%d.%d", &major, &minor)
	if err == nil && (major < minMajor || major == minMajor && minor < minMinor) {
		return fmt.Errorf("redislog: Redis is version %s, and %d.%d or later is needed, or Valkey: upgrade it, or connect to another server", version, minMajor, minMinor)
	}
	return nil
}
