package torture

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

type role int

const (
	simulatorRole role = iota
	apiRole
	streamerRole
	consumerRole
)

// child is one of the processes, with ways of its own to Postgres and one Redis,
// or, that of the simulator, to the api. Servers of a log that tell their clients
// of each other's addresses are reached directly.
type child struct {
	role                 role
	name                 string
	args                 []string
	postgres, redis, api *proxy.Proxy
	logURL               string // if the log is not in redis
}

var consumerNames = []string{"consumer0", "consumer1"}

// instancesOf are the names of a consumer's processes. The first consumer has two
// at least.
func (t *torture) instancesOf(consumer string) []string {
	n := t.Instances
	if consumer == consumerNames[0] {
		n = max(2, n)
	}
	return lettered(consumer, n)
}

func (t *torture) streamers() []string { return lettered("streamer", t.Streamers) }

// lettered numbers processes that do the same by letters.
func lettered(name string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s-%c", name, 'a'+i))
	}
	return all
}

func (t *torture) addChildren(port int) error {
	api, err := proxy.Listen("127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	seed, failures := fmt.Sprintf("--seed=%d", t.Seed), "--simulate-failures=0.1"
	const noAdmin = "--admin-listen=" // they could not share the one in the environment
	add := func(r role, name string, args ...string) {
		t.children = append(t.children, &child{role: r, name: name, args: append([]string{t.Command, "--log-format=text"}, args...)})
	}
	add(simulatorRole, "simulator", "simulator", seed, fmt.Sprintf("--rate=%g", t.Rate), fmt.Sprintf("--concurrency=%d", inFlight(t.Rate)),
		"--for=0s", "--url=http://"+api.Addr(), "--acknowledged="+t.acknowledged())
	t.children[0].api = api
	add(apiRole, "api", "api", "--tls-cert=", "--tls-key=")
	for _, name := range t.streamers() {
		add(streamerRole, name, "streamer", seed, failures, noAdmin)
	}
	for _, consumer := range consumerNames {
		for _, name := range t.instancesOf(consumer) {
			add(consumerRole, name, "consumer", consumer, "--park-rejected=false", seed, failures, noAdmin)
		}
	}
	return nil
}

// inFlight is how many requests the clients may wait for: enough to go on booking
// while all that they send is lost, each for 5 s, as far as connections allow.
func inFlight(rate float64) int { return int(min(max(256, 6*rate), 4096)) }

// acknowledged is where the simulator notes what the api has acknowledged.
func (t *torture) acknowledged() string { return filepath.Join(t.DataDir, "acknowledged.jsonl") }

// group returns the processes of some roles, one group for each role.
func (t *torture) group(roles ...role) [][]up.Process {
	var groups [][]up.Process
	for _, r := range roles {
		var group []up.Process
		for _, c := range t.with(r) {
			group = append(group, up.Process{Name: c.name, Args: c.args, Env: c.env})
		}
		groups = append(groups, group)
	}
	return groups
}

// with returns the processes of some roles.
func (t *torture) with(roles ...role) []*child {
	var some []*child
	for _, c := range t.children {
		for _, r := range roles {
			if c.role == r {
				some = append(some, c)
			}
		}
	}
	return some
}

func (t *torture) closeChildren() {
	for _, c := range t.children {
		for _, p := range c.proxies() {
			p.Close()
		}
	}
}

func (c *child) connect(databaseURL, redisURL, logURL string) (err error) {
	c.logURL = logURL
	if c.role == simulatorRole {
		return nil
	}
	if c.postgres, err = proxy.For(databaseURL); err != nil || c.role == apiRole || logURL != "" {
		return err
	}
	c.redis, err = proxy.For(redisURL)
	return err
}

// proxies are the ways that there are.
func (c *child) proxies() []*proxy.Proxy {
	var some []*proxy.Proxy
	for _, p := range []*proxy.Proxy{c.postgres, c.redis, c.api} {
		if p != nil {
			some = append(some, p)
		}
	}
	return some
}

func (c *child) env() []string {
	if c.role == simulatorRole {
		return nil
	}
	separator := "?"
	if strings.Contains(c.postgres.URL(), "?") {
		separator = "&"
	}
	env := []string{"DATABASE_URL=" + c.postgres.URL() + separator + "application_name=" + c.name, "LOG_URL=" + c.logURL, "UNILOG_SCHEMA="}
	if c.redis != nil {
		env = append(env, "REDIS_URL="+c.redis.URL())
	}
	return env
}
