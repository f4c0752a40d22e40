package up

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// maxLine bounds how much of a line without an end is held back.
const maxLine = 64 << 10

// colors are ANSI codes that can be read on dark and on light terminals.
var colors = []int{36, 33, 32, 35, 94, 95, 96, 93, 92, 34, 91, 31}

// output writes the lines of several sources whole, each after the name of its
// source. It is safe for concurrent use.
type output struct {
	mu    sync.Mutex
	w     io.Writer
	width int
	color bool
	names map[string]int // in the order in which they got their color

	// text, if set, renders records; level is the least that is shown.
	text  func(io.Writer) slog.Handler
	level slog.Level
	// heard, if set, is told of each record, shown or not. Those of one source
	// come one after the other.
	heard func(source string, r *record)
}

func newOutput(w io.Writer, color bool, names []string) *output {
	o := &output{w: w, color: color, names: map[string]int{}}
	for i, name := range names {
		o.names[name] = i
		o.width = max(o.width, len(name))
	}
	return o
}

// say prints one line of the supervisor's own.
func (o *output) say(format string, args ...any) {
	fmt.Fprintf(o.from(self), format+"\n", args...)
}

// from returns a writer for one source. Its writes never fail: who cannot
// print goes on working.
func (o *output) from(name string) *lines {
	prefix := fmt.Sprintf("%-*s | ", o.width, name)
	if i, ok := o.names[name]; o.color && ok {
		prefix = fmt.Sprintf("\x1b[%dm%s\x1b[0m", colors[i%len(colors)], prefix)
	}
	l := &lines{out: o, source: name, prefix: []byte(prefix)}
	if o.text != nil {
		l.text = o.text(&l.rendered)
	}
	return l
}

// lines gathers one source's output into lines.
type lines struct {
	out    *output
	source string
	prefix []byte
	// shown, if set, holds back all until it is closed.
	shown chan struct{}

	mu       sync.Mutex
	rest     []byte // of a line that has not ended
	text     slog.Handler
	rendered bytes.Buffer // what text makes of a record
}

func (l *lines) Write(p []byte) (int, error) {
	if l.shown != nil {
		<-l.shown
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	end := bytes.LastIndexByte(l.rest, '\n')
	if end < 0 && len(l.rest) < maxLine {
		return len(p), nil
	}
	if end < 0 {
		end = len(l.rest) - 1
	}
	l.print(l.rest[:end+1])
	l.rest = append(l.rest[:0], l.rest[end+1:]...)
	return len(p), nil
}

// flush prints a last line that did not end.
func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.print(l.rest)
	l.rest = nil
}

func (l *lines) print(text []byte) {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		line = bytes.TrimRight(line, "\r\n")
		for shown := range bytes.Lines(l.show(line)) {
			b.Write(l.prefix)
			b.Write(bytes.TrimRight(shown, "\r\n"))
			b.WriteByte('\n')
		}
	}
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	_, _ = l.out.w.Write(b.Bytes())
}

// show returns what a person is to see of a line: nothing of a record that is
// of too little importance, and all that is no record as it came.
func (l *lines) show(line []byte) []byte {
	r := parseRecord(line)
	if r == nil {
		return append(line[:len(line):len(line)], '\n')
	}
	if l.out.heard != nil {
		l.out.heard(l.source, r)
	}
	if r.level < l.out.level {
		return nil
	}
	if l.text == nil {
		return line
	}
	l.rendered.Reset()
	if err := l.text.Handle(context.Background(), r.logged()); err != nil {
		return line
	}
	return l.rendered.Bytes()
}
