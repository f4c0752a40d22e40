package redislog_test

import (
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/redislog"
)

// several are the Redis servers that are more than one.
var several = map[string]struct {
	shared func(testing.TB) string
	own    func(testing.TB) *testenv.Nodes
}{
	"Cluster":  {testenv.SharedCluster, testenv.Cluster},
	"Sentinel": {testenv.SharedSentinel, testenv.Sentinel},
}

func TestConformanceOfSeveralServers(t *testing.T) {
	t.Parallel()
	for name, servers := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logtest.Run(t, func(t *testing.T) logtest.Harness {
				stream := testenv.StreamName(t)
				log, err := redislog.Open(t.Context(), servers.shared(t), stream)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(log.Close)
				return logtest.Harness{Log: log, Wipe: func(t *testing.T) {
					client := log.Client()
					if err := client.Do(t.Context(), client.B().Del().Key(stream, "{"+stream+"}:leader").Build()).Error(); err != nil {
						t.Fatal(err)
					}
				}}
			})
		})
	}
}
