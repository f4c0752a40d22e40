package main

import (
	"encoding/json"
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
