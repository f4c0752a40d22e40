package redislog

import (
	"cmp"
	"time"

	"github.com/redis/rueidis"
)

const (
	// nodeDialTimeout and nodeReplyTimeout take the place of dialTimeout and
	// replyTimeout where there are several servers: one that is silent may have been
	// replaced, and a client that waits for it does not listen to the sentinels.
	nodeDialTimeout  = 2 * time.Second
	nodeReplyTimeout = 3 * time.Second
	// topologyInterval is how often sentinels, or a cluster's nodes, are asked who
	// the masters are, besides whenever a connection is lost or a server refers to
	// another: a master that was replaced and lives on may never say so.
	topologyInterval = 2 * time.Second
	// maxRedirections bounds how often one call is passed on: nodes that do not
	// know yet of a change may refer to each other for a while.
	maxRedirections = 5
)

// useBounds sets how long a client waits, and how often it asks.
func useBounds(option *rueidis.ClientOption) {
	dial, reply := dialTimeout, replyTimeout
	if !option.ForceSingleClient {
		dial, reply = nodeDialTimeout, nodeReplyTimeout
	}
	option.Dialer.Timeout = cmp.Or(option.Dialer.Timeout, dial)
	option.Dialer.KeepAlive = rueidis.DefaultTCPKeepAlive
	option.ConnWriteTimeout = cmp.Or(option.ConnWriteTimeout, reply)
	option.Sentinel.Dialer = option.Dialer // the client has no defaults for it
	option.Sentinel.TopologyRefreshInterval = topologyInterval
	option.ClusterOption.ShardsRefreshInterval = topologyInterval
	option.ClusterOption.MaxMovedRedirections = maxRedirections
}
