package main

import (
	"encoding/json"
	"runtime"
	"slices"
	"testing"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/rocketrides/internal/bench"
)

// TestBench measures little, for a short time.
func TestBench(t *testing.T) {
	t.Parallel()
	r := execute(t, nil, "bench", "streamer", "consumer", "idle", "--records=2000", "--rounds=1", "--for=1s", "--json")
	var report struct {
		Machine, Versions, Command string
		Figures                    []bench.Figure
	}
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 0 {
		t.Fatalf("%v, exit code %d\n%s%s", err, r.code, r.out, r.err)
	}
	if report.Machine == "" || report.Versions == "" || report.Command != "rocketrides bench streamer consumer idle --records=2000 --rounds=1 --for=1s --json" {
		t.Errorf("the setting is not said:\n%s", r.out)
	}
	var names []string
	for _, f := range report.Figures {
		names = append(names, f.Part+": "+f.Name)
		if !(f.Median > 0 && f.Min > 0 && f.Max > 0) || f.LimitMedian > 0 != (f.Ratio > 0) {
			t.Errorf("%+v", f)
		}
	}
	// The others are of what only Linux tells.
	for _, want := range []string{
		"streamer: drain 2,000", "consumer: consume 2,000", "consumer: two consumers, together",
		"idle: Postgres", "idle: Redis",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%q is not among %q", want, names)
		}
	}
}

// TestBenchScale measures little, in the engines that are always here.
func TestBenchScale(t *testing.T) {
	t.Parallel()
	r := execute(t, nil, "bench", "scale", "--scale-records=2000", "--partitions=2", "--engines=redis,postgres", "--rounds=1", "--json")
	var report struct{ Figures []bench.Figure }
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 0 {
		t.Fatalf("%v, exit code %d\n%s%s", err, r.code, r.out, r.err)
	}
	var names []string
	for _, f := range report.Figures {
		names = append(names, f.Name)
		if !(f.Median > 0) || f.LimitMedian > 0 != (f.Ratio > 0) {
			t.Errorf("%+v", f)
		}
	}
	want := []string{
		"Redis, drain into 2 partitions", "Redis, consume 2 partitions by 2 of one name",
		"Postgres alone, drain into 2 partitions", "Postgres alone, consume 2 partitions by 2 of one name",
	}
	if !slices.Equal(names, want) {
		t.Errorf("it measures %q, want %q", names, want)
	}
}

// TestBenchRelay measures little, for a short time, and gives every figure of the
// streamer next to the plain relay's.
func TestBenchRelay(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells what a process has used")
	}
	r := execute(t, nil, "bench", "relay", "trickle", "--records=2000", "--rounds=1", "--for=1s", "--json")
	var report struct{ Figures []bench.Figure }
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || r.code != 0 {
		t.Fatalf("%v, exit code %d\n%s%s", err, r.code, r.out, r.err)
	}
	figures := map[string]bench.Figure{}
	for _, f := range report.Figures {
		figures[f.Part+": "+f.Name] = f
	}
	// Those of the processor may be too little to be seen here.
	for name, wanted := range map[string]string{
		"relay: stage 2,000: Postgres, CPU":                 "plain relay; wanted: ratio ≤ 1.1",
		"relay: drain 2,000: Postgres, CPU":                 "plain relay; wanted: ratio ≤ 0.9",
		"relay: drain: Redis, CPU":                          "plain relay; wanted: ratio ≤ 1.2",
		"relay: 100 records/s: the process, CPU":            "plain relay; wanted: ≤ 3 % of a core",
		"relay: 1,000 records/s: the process, CPU":          "plain relay",
		"trickle: 10 records/s: dead tuples at the end":     "none",
		"trickle: 10 records/s: streamer, CPU":              "none",
		"relay: stage and drain: WAL":                       "plain relay; wanted: ratio ≤ 1.0",
		"relay: 100 records/s: from commit to Redis, p50":   "plain relay; wanted: ≤ 4 ms",
		"relay: 1,000 records/s: from commit to Redis, p99": "plain relay",
		"trickle: 10 records/s: WAL":                        "none",
	} {
		if f, ok := figures[name]; !ok || f.Limit != wanted {
			t.Errorf("%s is next to %q, want %q", name, f.Limit, wanted)
		}
	}
	for _, name := range []string{"relay: stage and drain: WAL", "relay: drain"} {
		if f := figures[name]; !(f.Median > 0 && f.LimitMedian > 0) {
			t.Errorf("%+v", f)
		}
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		`there is no part "nothing": choose from api, `: {"bench", "streamer", "nothing"},
		"--records is 0":          {"bench", "all", "--records=0"},
		"--backlog-records is 0":  {"bench", "all", "--backlog-records=0"},
		"--scale-records is -1":   {"bench", "all", "--scale-records=-1"},
		"--partitions is [1 0]":   {"bench", "scale", "--partitions=1,0"},
		`there is no engine "x"`:  {"bench", "scale", "--engines=redis,x"},
		"--rounds is 0":           {"bench", "all", "--rounds=0"},
		"--for is 1ms":            {"bench", "all", "--for=1ms"},
		"expected \"<part> ...\"": {"bench"},
	} {
		here(t.Context(), t, args...).fails(t, cli.ExitUsage, says)
	}
}
