package dashboard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// textMost bounds what is quoted of an error, in characters.
const textMost = 300

// short says something in one line of bounded length.
func short(text string) string {
	line := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " "))
	if len(line) > textMost {
		return string(line[:textMost-1]) + "…"
	}
	return string(line)
}

// lostWords are in errors of connections that are lost, or not to be had.
var lostWords = []string{
	"broken pipe", "connection refused", "connection reset", "unexpected EOF", "no such file", "conn closed",
	"57P01", "57P02", "57P03",
}

func lost(err string) bool {
	return slices.ContainsFunc(lostWords, func(word string) bool { return strings.Contains(err, word) })
}

// cause says what a process logs as an error in words, or as it is.
func cause(err string) string {
	switch {
	case !lost(err):
		return short(err)
	case strings.Contains(err, "the log"):
		return "The log does not answer."
	default:
		return "Postgres does not answer."
	}
}

// number writes 10214 as 10,214.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// records counts them in words.
func records(n int64) string {
	if n == 1 {
		return "1 record"
	}
	return number(n) + " records"
}

// lasted writes milliseconds for a person.
func lasted(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%d ms", ms)
	}
	d := time.Duration(ms) * time.Millisecond
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}
