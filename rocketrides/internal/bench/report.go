package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// setting is where the figures are from.
type setting struct {
	Machine  string `json:"machine"`
	Versions string `json:"versions"`
	Command  string `json:"command"`
}

func writeJSON(out io.Writer, s setting, figures []Figure) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		setting
		Figures []Figure `json:"figures"`
	}{s, figures})
}

// writeTable prints what is Markdown, too.
func writeTable(out io.Writer, s setting, figures []Figure) error {
	rows := [][]string{{"Part", "Figure", "Median", "Min–max", "Limit in the same round", "Its median", "Ratio"}}
	for _, f := range figures {
		row := []string{
			f.Part, f.Name, number(f.Median) + " " + f.Unit, number(f.Min) + "–" + number(f.Max),
			f.Limit, "", "",
		}
		if f.Unit == "" {
			row[2], row[3] = "not measured", ""
		}
		if f.LimitMedian > 0 {
			row[5], row[6] = number(f.LimitMedian)+" "+f.Unit, fmt.Sprintf("%.2f", f.Ratio)
		}
		rows = append(rows, row)
	}
	_, err := fmt.Fprintf(out, "Machine: %s\n\nVersions: %s\n\nCommand: `%s`\n\n%s", s.Machine, s.Versions, s.Command, table(rows))
	return err
}

// rightFrom is the first column of numbers; that of the limit's name is among them.
const rightFrom, limitColumn = 2, 4

// table aligns cells; the first row is the head.
func table(rows [][]string) string {
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
			if isNumber(i) {
				b.WriteString("| " + space + cell + " ")
			} else {
				b.WriteString("| " + cell + space + " ")
			}
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if isNumber(i) {
				b.WriteString("|" + strings.Repeat("-", width+1) + ":")
			} else {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
		}
		b.WriteString("|\n")
	}
	return b.String()
}

func isNumber(column int) bool { return column >= rightFrom && column != limitColumn }

// number writes at least three digits of a fraction, and thousands apart.
func number(v float64) string {
	if v != math.Trunc(v) && math.Abs(v) < 100 {
		digits := max(0, 2-int(math.Floor(math.Log10(math.Abs(v)))))
		return strconv.FormatFloat(v, 'f', digits, 64)
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
