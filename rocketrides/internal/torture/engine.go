package torture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/redisnodes"
)

// engine is what the log is in.
type engine struct {
	name   string
	is     string
	faults []fault // those of its servers
	// start starts the servers in a directory, and returns LOG_URL. Without it,
	// there are none but those of package up.
	start func(ctx context.Context, t *torture, dir string) (logURL string, err error)
}

var engines = []engine{
	{name: "redis", is: "one Redis", faults: redisFaults},
	{name: "sentinel", is: "a master, a replica and three sentinels", faults: slices.Concat(everyRedisFaults, nodesFaults), start: startSentinel},
	{
		name: "cluster", is: "a Redis Cluster of three masters and three replicas",
		faults: slices.Concat(everyRedisFaults, nodesFaults, clusterFaults), start: startCluster,
	},
	{name: "kafka", is: "one broker", faults: kafkaFaults, start: startKafka(1)},
	{name: "kafka3", is: "three brokers", faults: slices.Concat(kafkaFaults, brokersFaults), start: startKafka(3)},
	{name: "postgres", is: "Postgres alone", start: func(context.Context, *torture, string) (string, error) { return "postgres:", nil }},
}

// engineOf returns the engine of a name, which must be one.
func engineOf(name string) engine {
	return engines[slices.IndexFunc(engines, func(e engine) bool { return e.name == name })]
}

// catalogue has all faults that an engine is open to.
func (e engine) catalogue() []fault {
	return slices.Concat(processFaults, postgresFaults, e.faults, networkFaults)
}

// Names are those of the faults that an engine is open to.
func Names(engine string) []string {
	return names(engineOf(engine).catalogue())
}

// ByDefault are the names of the faults that come unless others are asked for.
func ByDefault(engine string, partitions int) []string {
	return names(slices.DeleteFunc(engineOf(engine).catalogue(), func(f fault) bool { return f.ofSeveral && partitions == 1 }))
}

func names(faults []fault) []string {
	var names []string
	for _, f := range faults {
		names = append(names, f.name)
	}
	return names
}

// strangers are the faults that only other engines are open to.
func (e engine) strangers() []string {
	own := names(e.catalogue())
	var others []string
	for _, other := range engines {
		for _, name := range names(other.faults) {
			if !slices.Contains(own, name) && !slices.Contains(others, name) {
				others = append(others, name)
			}
		}
	}
	return others
}

// Help says what each engine is, and what each fault does, a line for each.
func Help() string {
	var b strings.Builder
	list := func(title string, faults []fault) {
		fmt.Fprintf(&b, "%s:\n", title)
		for _, f := range faults {
			fmt.Fprintf(&b, "  %-18s %s\n", f.name, f.does)
		}
	}
	list("Of every engine", slices.Concat(processFaults, postgresFaults, networkFaults))
	for _, e := range engines {
		if len(e.faults) > 0 {
			list("Of "+e.name+", "+e.is, e.faults)
		}
	}
	return b.String()
}

// startLog starts the servers of the log, if it has any of its own.
func (t *torture) startLog(ctx context.Context) (err error) {
	if t.engine.start == nil {
		return nil
	}
	dir := filepath.Join(t.DataDir, "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	t.logURL, err = t.engine.start(ctx, t, dir)
	return err
}

func (t *torture) stopLog() error {
	if t.kafka != nil {
		t.kafka.Kill()
	}
	if t.nodes != nil {
		return t.nodes.Stop()
	}
	return nil
}

func startCluster(ctx context.Context, t *torture, dir string) (_ string, err error) {
	if t.nodes, err = redisnodes.StartCluster(ctx, dir); err != nil {
		return "", err
	}
	return t.nodes.URL(), nil
}

func startSentinel(ctx context.Context, t *torture, dir string) (_ string, err error) {
	if t.nodes, err = redisnodes.StartSentinel(ctx, dir); err != nil {
		return "", err
	}
	return t.nodes.URL(), nil
}

func startKafka(brokers int) func(context.Context, *torture, string) (string, error) {
	return func(ctx context.Context, t *torture, dir string) (_ string, err error) {
		if t.kafka, err = kafka.Start(ctx, kafka.Options{Dir: dir, Brokers: brokers}); err != nil {
			return "", err
		}
		return "kafka://" + t.kafka.Addresses() + "/" + stream, nil
	}
}
