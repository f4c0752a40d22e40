// Package bench measures how fast the processes of Rocket Rides are, on servers
// of its own, next to what those servers can do at the most.
package bench

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"
)

// Config says what to measure.
type Config struct {
	// Command is this program, whose subcommands are the processes.
	Command string
	// Migrate makes the tables.
	Migrate func(ctx context.Context, databaseURL string) error
	// Parts are names out of [Parts], in the order in which they are run.
	Parts []string
	// Records is how many records there are to drain and to consume.
	Records int
	// BacklogRecords is how long the longest backlog of part backlog is.
	BacklogRecords int
	// ScaleRecords is how many records there are for each figure of part scale.
	ScaleRecords int
	// Partitions are how many there are, one number after the other, in part scale.
	Partitions []int
	// Engines are names out of [Engines], of what part scale measures.
	Engines []string
	// Rounds is how often each part is measured, after a warm-up that is a tenth
	// as long.
	Rounds int
	// For is how long api, latency, idle, relay and trickle are measured for each figure.
	For time.Duration
	// Plots is the directory that plots are written to; none are if it is empty.
	Plots string
	// JSON asks for the report as JSON instead of a table.
	JSON bool
	// Out takes the report, and Live the progress: nil unless it is a terminal.
	Out, Live io.Writer
}

// part is what can be run alone.
type part struct {
	name string
	run  func(ctx context.Context, r *round) error
}

var parts = []part{
	{"api", measureAPI},
	{"streamer", measureStreamer},
	{"consumer", measureConsumer},
	{"latency", measureLatencies},
	{"idle", measureIdle},
	{"backlog", measureBacklog},
	{"scale", measureScale},
	{"cost", measureCost},
	{"relay", measureRelay},
	{"trickle", measureTrickle},
}

// Parts returns the names of all parts.
func Parts() []string {
	var names []string
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// bench is one run.
type bench struct {
	Config
	servers  *servers
	setting  setting
	progress *progress
	figures  []Figure
	plots    []plot
}

// round is one turn of a part: the warm-up, or one that counts.
type round struct {
	*bench
	part          string
	records       int
	backlog       int
	scale         int
	d             time.Duration
	samples       []sample
	drained, load []series // for the plots
}

// add notes what was measured, next to its limit.
func (r *round) add(name, unit string, value float64, against limit) {
	r.samples = append(r.samples, sample{name: name, unit: unit, value: value, against: against})
}

// Run measures and prints the report.
func Run(ctx context.Context, cfg Config) (err error) {
	b := &bench{Config: cfg, progress: newProgress(cfg.Live, len(cfg.Parts)*(cfg.Rounds+1))}
	if b.servers, err = startServers(ctx, cfg.Migrate); err != nil {
		return err
	}
	err = b.measure(ctx)
	b.progress.clear()
	if err := errors.Join(err, b.servers.remove()); err != nil {
		return err
	}
	if cfg.Plots != "" {
		if err := writePlots(cfg.Plots, b.plots); err != nil {
			return err
		}
	}
	if cfg.JSON {
		return writeJSON(cfg.Out, b.setting, b.figures)
	}
	return writeTable(cfg.Out, b.setting, b.figures)
}

func (b *bench) measure(ctx context.Context) (err error) {
	if b.setting, err = b.servers.setting(ctx); err != nil {
		return err
	}
	for _, p := range parts {
		if !slices.Contains(b.Parts, p.name) {
			continue
		}
		if err := b.measurePart(ctx, p); err != nil {
			return err
		}
	}
	if k := b.servers.kafka; k != nil {
		b.setting.Versions += ", Kafka " + k.Version()
	}
	return nil
}

func (b *bench) measurePart(ctx context.Context, p part) error {
	const tenth = 10
	var rounds [][]sample
	for n := 0; n <= b.Rounds; n++ {
		r := &round{bench: b, part: p.name, records: b.Records, backlog: b.BacklogRecords, scale: b.ScaleRecords, d: b.For}
		if n == 0 {
			r.records, r.backlog, r.scale = max(1, r.records/tenth), max(1, r.backlog/tenth), max(1, r.scale/tenth)
			r.d = max(time.Second, r.d/tenth)
		}
		b.progress.begin(p.name, n, b.Rounds)
		if err := p.run(ctx, r); err != nil {
			return err
		}
		b.progress.end()
		if n > 0 {
			rounds = append(rounds, r.samples)
		}
		if n == b.Rounds {
			b.addPlots(r)
		}
	}
	b.figures = append(b.figures, summarize(p.name, rounds)...)
	return nil
}

func (b *bench) addPlots(r *round) {
	if len(r.drained) > 0 {
		b.plots = append(b.plots, plot{
			file: "drain.svg", title: "Drain rate against backlog",
			x: "records that are left", y: "records/s", lines: r.drained,
		})
	}
	if len(r.load) > 0 {
		b.plots = append(b.plots, plot{
			file: "latency.svg", title: "Latency against load",
			x: "rides/s", y: "ms", lines: r.load,
		})
	}
}
