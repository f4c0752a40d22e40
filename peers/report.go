package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Where the measured part of a document begins and ends.
const (
	beginMark = "<!-- measured: what follows is written by make peers -->"
	endMark   = "<!-- end of what is measured -->"
)

// report is Markdown.
func (all results) report(c config, setting string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", setting)
	if !c.noWrongs {
		fmt.Fprintf(&b, "### Three wrongs\n\n%s\n", all.wrongTable())
	}
	fmt.Fprintf(&b, "### Speed and cost\n\n")
	fmt.Fprintf(&b, "Medians of rounds (%d), in which the relays took turns. "+
		"In brackets is the ratio to unilog's in the same round.\n\n%s\n", c.rounds, all.speedTable())
	fmt.Fprintf(&b, "### Where unilog loses\n\nIn brackets is what the other one needs of what unilog needs. For a drain that is the time.\n\n%s\n", all.losses())
	fmt.Fprintf(&b, "All took %v.\n\n### How each is configured\n\n", all.took.Round(time.Second))
	for _, p := range all.peers {
		fmt.Fprintf(&b, "- **%s**: %s\n", p.name(), p.setting())
	}
	return b.String()
}

func (all results) wrongTable() string {
	rows := [][]string{{"Wrong", "Relay", "Records", "Lost", "Doubled", "Out of order", "Stalled", "Noticed"}}
	for _, x := range wrongs[1:] {
		for _, o := range all.outcomes[x.name] {
			rows = append(rows, []string{
				x.name, o.name(), number(float64(o.committed)), number(float64(o.lost)), number(float64(o.doubled)),
				number(float64(o.disordered)), o.stall(), o.notice(x),
			})
		}
	}
	return table(rows, 2, 5)
}

func (o outcome) stall() string {
	switch {
	case o.stalled:
		return "for good"
	case o.whileOpen < o.others:
		return "until it ended"
	}
	return "no"
}

func (o outcome) notice(x wrong) string {
	switch {
	case !x.notices:
		return ""
	case o.noticed == "":
		return "no"
	}
	return "yes"
}

func (all results) speedTable() string {
	head := []string{"Figure"}
	for _, p := range all.peers {
		head = append(head, p.name())
	}
	rows := [][]string{head}
	for _, name := range figureNames {
		row := []string{name}
		for _, p := range all.peers {
			row = append(row, all.cell(name, p.name()))
		}
		rows = append(rows, row)
	}
	return table(rows, 1, len(head)-1)
}

// losses are the figures in which a peer is better, by more than chance.
func (all results) losses() string {
	const chance = 0.95
	var b strings.Builder
	for _, name := range figureNames {
		var better []string
		for _, p := range all.peers[1:] {
			_, ratio, known := all.summary(name, p.name())
			if name == drainRate {
				ratio = 1 / ratio
			}
			if known && ratio < chance {
				better = append(better, fmt.Sprintf("%s (%s)", p.name(), number(ratio)))
			}
		}
		if len(better) > 0 {
			fmt.Fprintf(&b, "- %s: %s\n", name, strings.Join(better, ", "))
		}
	}
	return b.String()
}

// cell is a median, and the ratio to unilog's.
func (all results) cell(figure, peer string) string {
	value, ratio, compared := all.summary(figure, peer)
	switch {
	case math.IsNaN(value):
		return "–"
	case !compared:
		return number(value)
	}
	return number(value) + " (" + number(ratio) + ")"
}

// summary is the median of the rounds, and that of their own ratios to unilog's, if
// there is one.
func (all results) summary(figure, peer string) (value, ratio float64, compared bool) {
	var values, ratios []float64
	for round, f := range all.rounds[peer] {
		v, measured := f[figure]
		if !measured {
			continue
		}
		values = append(values, v)
		if base := all.rounds[unilogPeer{}.name()]; round < len(base) && base[round][figure] > 0 {
			ratios = append(ratios, v/base[round][figure])
		}
	}
	if len(values) == 0 {
		return math.NaN(), 0, false
	}
	if peer == (unilogPeer{}).name() || len(ratios) == 0 {
		return median(values), 0, false
	}
	return median(values), median(ratios), true
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// number has two digits that say something, and thousands apart.
func number(v float64) string {
	if a := math.Abs(v); a != math.Trunc(a) && a < 100 {
		digits := 1
		if a < 10 {
			digits = max(1, 1-int(math.Floor(math.Log10(a))))
		}
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// table aligns cells; the first row is the head, and columns from one to another are
// on the right.
func table(rows [][]string, from, to int) string {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i >= from && i <= to {
				b.WriteString("| " + space + cell + " ")
			} else {
				b.WriteString("| " + cell + space + " ")
			}
		}
		b.WriteString("|\n")
		for i := range row {
			switch {
			case n > 0:
			case i >= from && i <= to:
				b.WriteString("|" + strings.Repeat("-", widths[i]+1) + ":")
			default:
				b.WriteString("|" + strings.Repeat("-", widths[i]+2))
			}
		}
		if n == 0 {
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// describe says when, where and with which versions.
func describe(ctx context.Context, c config) string {
	versions := []string{firstLine(ctx, c.unilog, "version"), "Go " + strings.TrimPrefix(runtime.Version(), "go")}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if strings.HasPrefix(m.Path, "github.com/ThreeDotsLabs/") {
				versions = append(versions, strings.TrimPrefix(m.Path, "github.com/ThreeDotsLabs/")+" "+m.Version)
			}
		}
	}
	_ = within(ctx, plainPeer{}, hold, func(w *world) error {
		var postgres string
		if err := w.db.QueryRow(ctx, `SHOW server_version`).Scan(&postgres); err != nil {
			return err
		}
		info, err := w.redis.Do(ctx, w.redis.B().Info().Section("server").Build()).ToString()
		_, redis, _ := strings.Cut(info, "redis_version:")
		redis, _, _ = strings.Cut(redis, "\r")
		versions = append(versions, "Postgres "+postgres, "Redis "+redis)
		return err
	})
	if c.debezium != "" {
		versions = append(versions, "Debezium Server "+debeziumVersion, firstLine(ctx, c.java, "-version"))
	}
	load, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf("Measured on %s on %s; load when it began: %s. %s.\n\nFor each measurement there were a new Postgres (`fsync` on, `autovacuum` off) "+
		"and a new Redis (`appendfsync always`) on this machine. A record is 45 to 50 bytes of JSON; %d are in a transaction of the backlog.",
		time.Now().Format("2006-01-02"), machine(), one, strings.Join(versions, ", "), stagedAtOnce)
}

func firstLine(ctx context.Context, command string, args ...string) string {
	out, _ := exec.CommandContext(ctx, command, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

func machine() string {
	text := fmt.Sprintf("%s/%s, %d cores", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	info, _ := os.ReadFile("/proc/cpuinfo")
	if _, after, found := strings.Cut(string(info), "model name\t: "); found {
		model, _, _ := strings.Cut(after, "\n")
		text += " of " + model
	}
	return text
}

// replaceMeasured puts a text between the document's marks.
func replaceMeasured(path, text string) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, begins := strings.Cut(string(document), beginMark)
	_, after, ends := strings.Cut(rest, endMark)
	if !begins || !ends {
		return fmt.Errorf("%s has not the lines %q and %q, between which the figures are to be", path, beginMark, endMark)
	}
	return os.WriteFile(path, []byte(before+beginMark+"\n\n"+text+"\n"+endMark+after), 0o644)
}
