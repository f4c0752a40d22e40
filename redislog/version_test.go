package redislog

import (
	"strings"
	"testing"
)

func TestOldRedisIsNamed(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{"5.0.14": true, "6.0.16": true, "6.2.0": false, "7.0.15": false, "8.2.3": false, "10.0.0": false, "": false, "df-v1.2": false} {
		err := judgeVersion(version)
		if (err != nil) != old || old && !strings.Contains(err.Error(), "version "+version+", and 6.2 or later is needed") {
			t.Errorf("%q: %v", version, err)
		}
	}
}

// TestRefusedGreeting has servers that refuse HELLO, and some that refuse INFO, too.
func TestRefusedGreeting(t *testing.T) {
	t.Parallel()
	const unknown, wants = "ERR unknown command `HELLO`", "ERR wrong number of arguments for 'hello' command"
	for answer, old := range map[[2]string]bool{
		{unknown, "# Server\r\nredis_version:5.0.14\r\n"}: true,
		{wants, "# Server\r\nredis_version:6.0.16\r\n"}:   true,
		{wants, ""}: true,
		{"NOPERM this user has no permissions", "redis_version:7.0.15"}: false,
		{unknown, ""}: false,
	} {
		if err := judgeRefusal(answer[0], answer[1]); (err != nil) != old {
			t.Errorf("%q: %v", answer, err)
		}
	}
}
