package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
	"golang.org/x/term"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
)

// KindFlags name some of the log's records.
type KindFlags struct {
	Only []string `placeholder:"OBJECT[/ACTION]" sep:"none" help:"Only records of this object, or of this action of it. It can be given several times."`
}

func (f *KindFlags) kinds() (kinds []unilog.Kind, err error) {
	for _, text := range f.Only {
		kind, err := unilog.ParseKind(text)
		if err != nil {
			return nil, fmt.Errorf("--only: %w", err)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

// Validate refuses what names no kind.
func (f *KindFlags) Validate() error {
	_, err := f.kinds()
	return err
}

// Moment is a time, or so long before the present.
type Moment struct {
	at  time.Time
	ago time.Duration
}

var momentLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

// UnmarshalText reads it as a person writes it. A time without a zone is this machine's.
func (m *Moment) UnmarshalText(text []byte) error {
	if ago, err := time.ParseDuration(string(text)); err == nil && ago >= 0 {
		*m = Moment{ago: ago}
		return nil
	}
	for _, layout := range momentLayouts {
		if at, err := time.ParseInLocation(layout, string(text), time.Local); err == nil {
			*m = Moment{at: at}
			return nil
		}
	}
	return fmt.Errorf("%q is no time and no duration: write it as 90s, 15m, 24h, 2006-01-02, \"2006-01-02 15:04:05\" or 2006-01-02T15:04:05Z", text)
}

// after is the time that is meant, by a clock that shows now.
func (m *Moment) after(now time.Time) time.Time {
	if m.at.IsZero() {
		return now.Add(-m.ago)
	}
	return m.at
}

// payloadOf is what the record carries, as text for a person.
func payloadOf(e *unilog.Entry) string {
	if e.ContentType != "" {
		return "<" + payload(&e.Record) + ">"
	}
	return string(e.Data)
}

// printable shows what a terminal would take for a command, or would not show, by its
// number.
func printable(text string) string {
	var out strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\uFFFD"):
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return out.String()
}

// recordOf names what the entry is a record of.
func recordOf(e *unilog.Entry) string {
	if _, is := barrier.Of(e); is {
		return "(barrier: the number of partitions changed)"
	}
	return e.Object + "/" + e.Action
}

// shownEntry is an entry as JSON.
type shownEntry struct {
	Partition int               `json:"partition"`
	Offset    int64             `json:"offset"`
	StagedAt  time.Time         `json:"staged_at"`
	Object    string            `json:"object"`
	Action    string            `json:"action"`
	Key       string            `json:"key,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"`
	Data      json.RawMessage   `json:"data,omitempty"`
	// Body is there if and only if ContentType is, in base 64.
	Body        *[]byte `json:"body,omitempty"`
	ContentType string  `json:"content_type,omitempty"`
	// Barrier says that it is an entry of the log's own.
	Barrier bool `json:"barrier,omitempty"`
	// From is where get has found it.
	From     string    `json:"from,omitempty"`
	Redacted *redacted `json:"redacted,omitempty"`
}

func shown(e *unilog.Entry) shownEntry {
	_, isBarrier := barrier.Of(e)
	s := shownEntry{
		Partition: e.Partition, Offset: e.Offset, StagedAt: e.StagedAt, Object: e.Object, Action: e.Action, Key: e.Key,
		Headers: e.Headers, Data: e.Data, ContentType: e.ContentType, Barrier: isBarrier,
	}
	if e.ContentType != "" {
		s.Body = &e.Body
	}
	return s
}

// entryPrinter writes entries, one a line.
type entryPrinter struct {
	out    io.Writer
	asJSON bool
	// width is that of the terminal, or 0.
	width int
}

func newEntryPrinter(asJSON bool) *entryPrinter {
	p := &entryPrinter{out: os.Stdout, asJSON: asJSON}
	if width, _, err := term.GetSize(int(os.Stdout.Fd())); err == nil {
		p.width = width
	}
	return p
}

// print fails with errGone if nobody reads any more.
func (p *entryPrinter) print(e *unilog.Entry) error {
	if p.asJSON {
		return p.json(shown(e))
	}
	key := e.Key
	if key == "" {
		key = "-"
	}
	line := fmt.Sprintf("%d/%d  %s  %s  %s  %s", e.Partition, e.Offset, e.StagedAt.Local().Format("2006-01-02 15:04:05.000"), recordOf(e), key, payloadOf(e))
	line = printable(line)
	if p.width > 0 {
		line = ansi.Truncate(line, p.width, "…")
	}
	return p.write(line)
}

func (p *entryPrinter) json(what any) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(what); err != nil {
		return err
	}
	return p.write(escapeJSON(strings.TrimSuffix(line.String(), "\n")))
}

func (p *entryPrinter) write(line string) error {
	_, err := fmt.Fprintln(p.out, line)
	return gone(err)
}

// errGone says that who read the output has seen enough, as head has.
var errGone = errors.New("nobody reads the output any more")

func gone(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return errGone
	}
	return err
}

// unlessGone returns err unless it is that one, which is no failure.
func unlessGone(err error) error {
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}

// escapeJSON escapes, in JSON, what a terminal would not show as text. JSON itself does
// so only for the first control characters.
func escapeJSON(text string) string {
	if isPlain(text) {
		return text
	}
	var out strings.Builder
	for _, r := range text {
		switch {
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

func isPlain(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
