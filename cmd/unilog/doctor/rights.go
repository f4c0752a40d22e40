package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/redis/rueidis"
)

// examineRights finds that this user of Redis may not do what everybody does who uses the
// log. What fails for another reason is no matter of rights.
func examineRights(ctx context.Context, head func(context.Context) error) []Finding {
	if head == nil {
		return nil
	}
	var refused *rueidis.RedisError
	if err := head(ctx); !errors.As(err, &refused) || !isForbidden(refused.Error()) {
		return nil
	}
	return []Finding{about("rights in Redis", Unsafe, "Redis does not let this user read the log ("+refused.Error()+")",
		"each append and each look at the log is a script (EVALSHA, EVAL), on the keys of the stream alone",
		"give the user the commands and keys of deploy/redis/users.acl; if its keys must begin with a prefix, let STREAM_NAME be prefix:{log}, with the braces; where a Redis has no scripts, keep the log in Postgres or Kafka", Streamer, Consumer)}
}

// isForbidden knows the words of Redis 6.2, 7 and 8, for a command, a key, within a script,
// and a command that was renamed.
func isForbidden(said string) bool {
	for _, words := range []string{"NOPERM", "The user executing the script can't", "ACL failure in script", "unknown command"} {
		if strings.Contains(said, words) {
			return true
		}
	}
	return false
}
