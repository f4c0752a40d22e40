package bench

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1}, 5},
		{[]float64{100, 2, 1}, 2},
		{[]float64{4, 1, 3, 100}, 3.5},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want || !slices.Equal(c.values, before) {
			t.Errorf("median of %v is %v, want %v; they are now %v", before, got, c.want, c.values)
		}
	}
}

// Ratios are of what was measured in one round, not of medians of several.
func TestSummarize(t *testing.T) {
	t.Parallel()
	round := func(value, most float64) []sample {
		return []sample{
			{"drain", "records/s", value, limit{"most", most}},
			{"memory", "MB", value + 1, limit{name: "no limit"}},
		}
	}
	got := summarize("streamer", [][]sample{round(10, 10), round(30, 40), round(20, 100)})
	want := []Figure{
		{"streamer", "drain", "records/s", 20, 10, 30, "most", 40, 0.75},
		{"streamer", "memory", "MB", 21, 11, 31, "no limit", 0, 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	y := make(way, 3)
	y[0].at = time.Now()
	y[1].at, y[1].offset = y[0].at.Add(time.Second), 100
	y[2].at, y[2].offset = y[0].at.Add(3*time.Second), 600
	if got := y.rate(); got != 200 {
		t.Errorf("rate %v, want 200", got)
	}
	if got, want := y.series("s").points, []point{{600, 100}, {500, 250}}; !slices.Equal(got, want) {
		t.Errorf("series %v, want %v", got, want)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	if got := (limit{"pgbench", 6400}).pace(64); got.value != 10 {
		t.Errorf("64 clients that do 6,400 a second take %v ms each, want 10", got.value)
	}
	if got := (limit{name: "no pgbench here"}).pace(64); got.name != "no pgbench here" || got.value != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 64: "64", 0.0123: "0.0123", 1.234: "1.23", 45.67: "45.7", 99.99: "100.0",
		100: "100", 999.6: "1,000", 1234567: "1,234,567", -123456: "-123,456", -123: "-123",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	got := table([][]string{{"Part", "Figure", "Median"}, {"idle", "–", "1,234"}})
	want := "| Part | Figure | Median |\n|------|--------|-------:|\n| idle | –      |  1,234 |\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestNotMeasured(t *testing.T) {
	t.Parallel()
	figures := summarize("scale", [][]sample{{{name: "Kafka", against: limit{name: "no Kafka here"}}}})
	var b strings.Builder
	if err := writeTable(&b, setting{}, figures); err != nil {
		t.Fatal(err)
	}
	row := b.String()[strings.LastIndex(strings.TrimSpace(b.String()), "\n")+1:]
	want := []string{"", "scale", "Kafka", "not measured", "", "no Kafka here", "", "", "\n"}
	var got []string
	for _, cell := range strings.Split(row, "|") {
		got = append(got, strings.Trim(cell, " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the row is %q, want %q", got, want)
	}
}

func TestTicks(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64][]float64{
		0:         {0, 1},
		6:         {0, 1, 2, 3, 4, 5, 6},
		7:         {0, 2, 4, 6, 8},
		100:       {0, 20, 40, 60, 80, 100},
		5_000_000: {0, 1e6, 2e6, 3e6, 4e6, 5e6},
	} {
		if got := ticks(most); !slices.Equal(got, want) {
			t.Errorf("up to %v: %v, want %v", most, got, want)
		}
	}
	for _, most := range []float64{0.0123, 0.6, 59, 61, 1234.5, 7e9} {
		got := ticks(most)
		if last := got[len(got)-1]; last < most || last > 2*most || len(got) < 4 || len(got) > 8 {
			t.Errorf("up to %v: %v", most, got)
		}
	}
	if got := ticks(math.NaN()); len(got) != 2 {
		t.Errorf("of nothing: %v", got)
	}
}

// The least is drawn at the axes' corner, the most at the last ticks.
func TestPlotFillsItsFrame(t *testing.T) {
	t.Parallel()
	p := plot{title: "a < b", x: "x", y: "y", lines: []series{{"line", []point{{0, 0}, {50, 5}, {100, 9}}}}}
	got := p.svg()
	for _, want := range []string{`points="95.0,340.0 385.0,200.0 675.0,88.0"`, ">a &lt; b<", ">line<", ">100<", "</svg>"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not in\n%s", want, got)
		}
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	for fraction, want := range map[float64]int{-1: 0, 0: 0, 0.5: barWidth / 2, 1: barWidth, 2: barWidth} {
		if got := strings.Count(bar(fraction), "#"); got != want {
			t.Errorf("at %v there are %d, want %d", fraction, got, want)
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	info := "# Stats\r\nredis_version:7.0.15\r\ntotal_commands_processed:12\r\nempty:\r\nMemTotal:       24 kB\n"
	for name, want := range map[string]string{
		"redis_version": "7.0.15", "total_commands_processed": "12", "empty": "", "MemTotal": "24 kB", "version": "",
	} {
		if got := field(info, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
