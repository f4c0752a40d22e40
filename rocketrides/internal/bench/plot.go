package bench

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"strings"
)

type point struct{ x, y float64 }

type series struct {
	name   string
	points []point
}

// plot is a drawing of some lines.
type plot struct {
	file, title string
	x, y        string // what the axes show
	lines       []series
}

// The drawing's size, and the margins around its axes.
const (
	plotWidth, plotHeight   = 720, 400
	left, right, top, under = 95, 45, 60, 60
)

// plotColors can be told apart, on light and on dark, by the colour-blind too.
var plotColors = []string{"#0a84c8", "#d9730d", "#2e9e6b"}

// plotStyle follows the reader's taste for dark or light. The background is the
// plot's own, as what it is shown on may follow another.
const plotStyle = `<style>
text { font: 13px sans-serif; fill: #333 } .title { font-size: 16px }
.back { fill: #fff } .axis { stroke: #555 } .grid { stroke: #8884 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .back { fill: #161b22 } .axis { stroke: #aaa } }
</style>
<rect class="back" width="100%" height="100%"/>
`

// svg draws it.
func (p plot) svg() string {
	var mostX, mostY float64
	for _, line := range p.lines {
		for _, at := range line.points {
			mostX, mostY = max(mostX, at.x), max(mostY, at.y)
		}
	}
	ticksX, ticksY := ticks(mostX), ticks(mostY)
	endX, endY := ticksX[len(ticksX)-1], ticksY[len(ticksY)-1]
	placeX := func(v float64) float64 { return left + v/endX*(plotWidth-left-right) }
	placeY := func(v float64) float64 { return plotHeight - under - v/endY*(plotHeight-top-under) }

	var b strings.Builder
	text := func(x, y float64, anchor, more, s string) {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" text-anchor="%s"%s>%s</text>`+"\n", x, y, anchor, more, html.EscapeString(s))
	}
	rule := func(class string, x1, y1, x2, y2 float64) {
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", class, x1, y1, x2, y2)
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", plotWidth, plotHeight, html.EscapeString(p.title))
	b.WriteString(plotStyle)
	text(left, 22, "start", ` class="title"`, p.title)
	for _, v := range ticksX {
		rule("grid", placeX(v), placeY(0), placeX(v), placeY(endY))
		text(placeX(v), placeY(0)+18, "middle", "", tickLabel(v))
	}
	for _, v := range ticksY {
		rule("grid", placeX(0), placeY(v), placeX(endX), placeY(v))
		text(placeX(0)-8, placeY(v)+4, "end", "", tickLabel(v))
	}
	rule("axis", placeX(0), placeY(0), placeX(endX), placeY(0))
	rule("axis", placeX(0), placeY(0), placeX(0), placeY(endY))
	text(placeX(endX/2), plotHeight-14, "middle", "", p.x)
	text(18, placeY(endY/2), "middle", fmt.Sprintf(` transform="rotate(-90 18 %.0f)"`, placeY(endY/2)), p.y)

	nameX := float64(left)
	for i, line := range p.lines {
		color := plotColors[i%len(plotColors)]
		var at []string
		for _, v := range line.points {
			at = append(at, fmt.Sprintf("%.1f,%.1f", placeX(v.x), placeY(v.y)))
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>`+"\n", color, strings.Join(at, " "))
		fmt.Fprintf(&b, `<rect x="%.0f" y="34" width="12" height="12" fill="%s"/>`+"\n", nameX, color)
		text(nameX+18, 45, "start", "", line.name)
		nameX += 40 + 7.5*float64(len(line.name))
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// ticks are round numbers from 0 to the most that there is or over it, a
// handful.
func ticks(most float64) []float64 {
	if !(most > 0) {
		return []float64{0, 1}
	}
	const atMost = 6
	power := math.Pow(10, math.Floor(math.Log10(most/atMost)))
	step := 10 * power
	for _, factor := range []float64{1, 2, 5} {
		if most <= atMost*factor*power {
			step = factor * power
			break
		}
	}
	all := []float64{0}
	for n := 1.0; all[len(all)-1] < most; n++ {
		all = append(all, n*step)
	}
	return all
}

// tickLabel writes a round number.
func tickLabel(v float64) string {
	if v >= 100 {
		return number(v)
	}
	return fmt.Sprintf("%.3g", v)
}

func writePlots(dir string, plots []plot) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range plots {
		if err := os.WriteFile(filepath.Join(dir, p.file), []byte(p.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
