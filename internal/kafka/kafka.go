// Package kafka runs Kafka brokers for tests, as child processes of this one, on
// free ports of 127.0.0.1. They need a JDK or JRE, and Kafka's jars, which
// scripts/kafka.sh gets.
package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private/child"
)

// ErrMissing says what this machine lacks.
var ErrMissing = errors.New("no Kafka to test with: `make test` gets one, if there is a JDK of version 17 or newer and Maven")

// Options say what cluster to start.
type Options struct {
	// Dir holds everything of the cluster. It must exist.
	Dir string
	// Brokers is how many there are. Default: 1.
	Brokers int
	// Protocol is how clients connect: PLAINTEXT, SASL_PLAINTEXT, SSL or
	// SASL_SSL. Default: PLAINTEXT, as brokers among themselves.
	Protocol string
	// Properties are further lines of each broker's configuration.
	Properties []string
	// Format are further arguments of the tool that formats the storage.
	Format []string
	// Java are arguments of the Java machine. Default: few resources, and without
	// the compiler that takes longer than a test.
	Java []string
}

// Cluster is a running cluster.
type Cluster struct {
	Brokers []*Broker

	java, classes string
	arguments     []string // of Java

	archive string // of loaded classes, see archive.go; empty if it is there
	making  bool   // it is made
}

// Broker is one of a cluster. The first one is also the controller of all, which
// they cannot do without: a quorum of three would take long to come together.
type Broker struct {
	// Address is where clients connect.
	Address string

	cluster *Cluster
	dir     string
	inner   string // where other brokers connect
	process *child.Process
}

// clusterID is any 16 bytes.
const clusterID = "cm9ja2V0cmlkZXMtMTIzNA"

// Start starts a cluster and waits until all of its brokers have joined. The
// error is ErrMissing if this machine has no Kafka.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	c, err := find(ctx)
	if err != nil {
		return nil, err
	}
	if c.arguments = o.Java; c.arguments == nil {
		c.arguments = []string{"-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
		c.useArchive()
	}
	n := max(1, o.Brokers)
	c.making = n == 1 && c.archive != "" && o.Java == nil
	addresses := make([]string, 2*n+1)
	for i := range addresses {
		addresses[i] = net.JoinHostPort("127.0.0.1", strconv.Itoa(freeport.Next()))
	}
	group, started := errgroup.WithContext(ctx)
	for i := range n {
		b := &Broker{
			Address: addresses[2*i+1], inner: addresses[2*i+2],
			cluster: c, dir: filepath.Join(o.Dir, fmt.Sprintf("broker-%d", i+1)),
		}
		c.Brokers = append(c.Brokers, b)
		group.Go(func() error {
			if err := b.format(started, o, i+1, n, addresses[0]); err != nil {
				return err
			}
			return b.launch()
		})
	}
	if err = group.Wait(); err == nil {
		err = c.wait(ctx)
	}
	if err != nil {
		c.Kill()
		return nil, err
	}
	return c, nil
}

// Check returns ErrMissing if this machine has no Kafka.
func Check(ctx context.Context) error {
	_, err := find(ctx)
	return err
}

// find finds Java and the newest of Kafka's jars that scripts/kafka.sh got, or those of
// the version that UNILOG_TEST_KAFKA names.
func find(ctx context.Context) (*Cluster, error) {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(home, ".cache")
	}
	jars, _ := filepath.Glob(filepath.Join(cache, "unilog", "kafka-"+cmp.Or(os.Getenv("UNILOG_TEST_KAFKA"), "*"), "kafka-tools-*.jar"))
	if len(jars) == 0 {
		return nil, ErrMissing
	}
	// Homebrew's is not on the PATH; macOS has one there that is none.
	for _, java := range []string{"java", "/opt/homebrew/opt/openjdk/bin/java", "/usr/local/opt/openjdk/bin/java"} {
		if version, err := exec.CommandContext(ctx, java, "-version").CombinedOutput(); err == nil {
			dir := filepath.Dir(slices.Max(jars))
			return &Cluster{java: java, classes: filepath.Join(dir, "*"), archive: archiveIn(dir, version)}, nil
		}
	}
	return nil, ErrMissing
}

// format writes the broker's configuration and makes its storage.
func (b *Broker) format(ctx context.Context, o Options, id, brokers int, controller string) error {
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	inSync := min(2, brokers)
	roles, listeners := "broker", fmt.Sprintf("CLIENTS://%s,BROKERS://%s", b.Address, b.inner)
	if id == 1 {
		roles, listeners = "broker,controller", listeners+",CONTROLLERS://"+controller
	}
	lines := []string{
		"process.roles=" + roles,
		fmt.Sprintf("node.id=%d", id),
		"controller.quorum.voters=1@" + controller,
		"listeners=" + listeners,
		fmt.Sprintf("advertised.listeners=CLIENTS://%s,BROKERS://%s", b.Address, b.inner),
		"inter.broker.listener.name=BROKERS",
		"controller.listener.names=CONTROLLERS",
		"listener.security.protocol.map=BROKERS:PLAINTEXT,CONTROLLERS:PLAINTEXT,CLIENTS:" + cmp.Or(o.Protocol, "PLAINTEXT"),
		"log.dirs=" + filepath.Join(b.dir, "data"),
		"auto.create.topics.enable=false",
		"transaction.state.log.num.partitions=3",
		"offsets.topic.num.partitions=1",
		fmt.Sprintf("offsets.topic.replication.factor=%d", brokers),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", brokers),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		// The cleaner's buffer would take half of the memory.
		"log.cleaner.dedupe.buffer.size=2097152",
		"log.cleaner.threads=1",
		// A broker that was killed is missed soon.
		"broker.session.timeout.ms=2000",
		"broker.heartbeat.interval.ms=300",
		"replica.lag.time.max.ms=2000",
		// On a slow machine the controller may take longer than the minute of the default.
		"initial.broker.registration.timeout.ms=300000",
	}
	text := strings.Join(append(lines, o.Properties...), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(b.dir, "properties"), []byte(text), 0o600); err != nil {
		return err
	}
	args := append([]string{"format", "--cluster-id", clusterID, "--config", filepath.Join(b.dir, "properties")}, o.Format...)
	out, err := b.cluster.Command("kafka.tools.StorageTool", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("format Kafka's storage: %w: %s", err, out)
	}
	return nil
}

// Command runs a class of Kafka's.
func (c *Cluster) Command(class string, args ...string) *exec.Cmd {
	all := append(slices.Clone(c.arguments), "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", c.classes, class)
	return exec.Command(c.java, append(all, args...)...)
}

// launch starts the broker.
func (b *Broker) launch() error {
	log, err := os.OpenFile(filepath.Join(b.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := b.cluster.Command("kafka.Kafka", filepath.Join(b.dir, "properties"))
	b.cluster.makeArchive(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	b.process, err = child.Start(cmd, syscall.SIGKILL)
	return err
}

// Restart starts the broker again, after Kill, and waits until it has joined.
func (b *Broker) Restart(ctx context.Context) error {
	if err := b.launch(); err != nil {
		return err
	}
	return b.cluster.wait(ctx)
}

// Kill ends the broker with SIGKILL and waits until it is gone.
func (b *Broker) Kill() {
	if b.process != nil {
		_ = b.process.Signal(syscall.SIGKILL)
		<-b.process.Done()
	}
}

// Pid is the broker's process id.
func (b *Broker) Pid() int { return b.process.Pid() }

// Data is the directory of its topics' partitions.
func (b *Broker) Data() string { return filepath.Join(b.dir, "data") }

// Signal sends the broker a signal.
func (b *Broker) Signal(s syscall.Signal) error { return b.process.Signal(s) }

// Kill ends all brokers.
func (c *Cluster) Kill() {
	for _, b := range c.Brokers {
		b.Kill()
	}
}

// Stop ends all brokers for good. It may take longer than Kill, once for each machine.
func (c *Cluster) Stop() {
	if c.making {
		if err := c.Brokers[0].Signal(syscall.SIGTERM); err == nil {
			<-c.Brokers[0].process.Done()
		}
		c.keepArchive()
	}
	c.Kill()
}

// Version is that of Kafka.
func (c *Cluster) Version() string {
	return strings.TrimPrefix(filepath.Base(filepath.Dir(c.classes)), "kafka-")
}

// Addresses are those of all brokers, with commas between.
func (c *Cluster) Addresses() string {
	var all []string
	for _, b := range c.Brokers {
		all = append(all, b.Address)
	}
	return strings.Join(all, ",")
}

// wait waits until all brokers are there for each other.
func (c *Cluster) wait(ctx context.Context) error {
	var seeds []string
	for _, b := range c.Brokers {
		seeds = append(seeds, b.inner)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		found, err := kadm.NewClient(client).ListBrokers(ctx)
		if err == nil && len(found) == len(c.Brokers) {
			return nil
		}
		for _, b := range c.Brokers {
			select {
			case <-b.process.Done():
				text, _ := os.ReadFile(filepath.Join(b.dir, "log"))
				return fmt.Errorf("a Kafka broker ended: %v: %s", b.process.Err(), text)
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d brokers of Kafka do not come together: %w", len(c.Brokers), errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
