package redislog_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
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

func TestConformanceOfClusterAndSentinel(t *testing.T) {
	t.Parallel()
	for name, servers := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logtest.Run(t, func(t *testing.T) logtest.Harness {
				stream := testenv.StreamName(t)
				log, err := redislog.Open(t.Context(), testenv.PatientRedis(servers.shared(t)), stream)
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

// TestClusterAndSentinelAreNotAskedAgain freezes a master, asks it to append, and kills
// it: whoever takes its place must not be asked behind the caller's back.
func TestClusterAndSentinelAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	for name, servers := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes, stream := servers.own(t), testenv.StreamName(t)
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			log, err := redislog.Open(t.Context(), nodes.URL(), stream)
			must(err)
			t.Cleanup(log.Close)
			term := unilog.Term{LogID: "a", Epoch: 1}
			await.That(t, "the first record to be appended", func() string {
				if _, err := log.Append(t.Context(), term, []unilog.Entry{entry(1)}); err != nil && !errors.Is(err, unilog.ErrAlreadyAppended) {
					return err.Error()
				}
				return ""
			})
			var master, replica *testenv.Node
			await.True(t, "a master with a replica", func() bool {
				master, replica, err = nodes.Master(t.Context(), stream)
				return err == nil && master != nil && replica != nil
			})
			await.True(t, "the replica to have it, too", func() bool {
				keys, err := replica.Do(t.Context(), "DBSIZE").AsInt64()
				return err == nil && keys == 2
			})

			must(master.Signal(syscall.SIGSTOP))
			answer := make(chan error, 1)
			go func() {
				_, err := log.Append(t.Context(), term, []unilog.Entry{entry(2)})
				answer <- err
			}()
			must(master.Kill())
			if err := await.Receive(t, "an answer", answer); err == nil {
				t.Error("a dead master has answered")
			}
			var head unilog.Head
			await.That(t, "the new master to answer", func() string {
				if head, err = log.Head(t.Context(), 0); err != nil {
					return err.Error()
				}
				return ""
			})
			if head.Offset != 1 {
				t.Errorf("the new master's head is %+v, want it at 1", head)
			}
		})
	}
}
