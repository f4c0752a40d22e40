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
