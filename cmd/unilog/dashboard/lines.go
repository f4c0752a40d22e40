package dashboard

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	// resendPatience is how long a simulated crash waits for what comes of it.
	resendPatience = 5000
	// repeatPause is the time between notes of the same line.
	repeatPause = 10_000
	// crashPause is how long a new term may be due to a simulated crash.
	crashPause = 2000
)

// heard is one line of what `up` tells.
type heard struct {
	System json.RawMessage `json:"system"`
	Log    *logLine        `json:"log"`
	Up     *upEvent        `json:"up"`
	// connected says that the connection has begun, ended that it is over.
	connected, ended bool
}

// logLine is what a process has logged.
type logLine struct {
	Time   time.Time      `json:"time"`
	Source string         `json:"source"`
	Level  string         `json:"level"`
	Msg    string         `json:"msg"`
	Attrs  map[string]any `json:"attrs"`
}

// upEvent is what `up` has done or seen.
type upEvent struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"`
	Kind   string    `json:"kind"`
	Text   string    `json:"text"`
}

// crash is a simulated one of the streamer, which sends records again.
type crash struct {
	at, records, last int64
}

// upKinds are the kinds of notes of what `up` does or sees; the rest is info.
var upKinds = map[string]string{
	"killed": "killed", "died": "crash", "started": "restart", "frozen": "frozen", "thawed": "recovered",
	"written": "written", "emptied": "lost", "cut": "lost", "restored": "recovered",
}

// hear takes what `up` tells.
func (t *story) hear(h heard, at int64) {
	switch {
	case h.connected, h.ended:
		t.controlled = h.connected
	case h.Up != nil:
		t.say(at, cmp.Or(upKinds[h.Up.Kind], "info"), h.Up.Source, "%s", h.Up.Text)
		if h.Up.Kind == "emptied" {
			t.wasEmptied(h.Up.Time.UnixMilli(), at)
		}
	case h.Log != nil && h.Log.Source != "dashboard": // which says what this one knows
		t.logged(h.Log, at)
	}
}

// logged notes what a process has logged, where that is worth a note. The
// messages are those of package unilog and of the commands.
func (t *story) logged(l *logLine, at int64) {
	say := func(kind, format string, args ...any) {
		t.say(at, kind, l.Source, "%s %s", l.Source, fmt.Sprintf(format, args...))
	}
	count, first, last := l.number("records"), l.number("first"), l.number("last")
	switch l.Msg {
	case "simulated crash after publishing, before recording it: the batch will be sent again":
		t.giveUpOn(l.Source, at)
		t.crashes[l.Source] = &crash{at: at, records: count, last: last}
		t.crashed[l.Source] = at
	case "double send refused: the log holds these records already":
		t.refused(l, at)
	case "simulated crash before saving: nothing has changed, the records are read again":
		say("simulated", "crashed before saving %s; nothing changed, and it starts again from its checkpoint.", records(count))
	case "the log has lost records: publishing them again from the archive":
		t.hasLost(l.Time.UnixMilli(), first, last)
	case "leading":
		if at-t.crashed[l.Source] > crashPause {
			say("leader", "leads, in epoch %d.", l.number("epoch"))
		}
	case "no longer leading":
		say("leader", "no longer leads: epoch %d does.", l.number("newer"))
	case "standing by: another streamer leads":
		say("leader", "stands by: another one leads.")
	case "gap filled from the archive":
		say("info", "found %s missing in the log and read them from the archive.", records(count))
	case "skipped duplicates":
		say("refused", "skipped %s that it had applied already.", records(count))
	case "record rejected: parked in dead_letters":
		say("halted", "parked record %s in dead_letters: %v", number(l.number("offset")), l.Attrs["err"])
	case "halted until this is mended: trying again from time to time":
		say("halted", "has halted until this is mended: %v", l.Attrs["err"])
	default:
		if with, ok := strings.CutPrefix(l.Msg, "bootstrapped at the log's head"); ok {
			say("info", "is new and begins at the log's head%s.", with)
			return
		}
		t.other(l, at)
	}
}

// failures says in words what processes log when a call of theirs has failed.
var failures = map[string]string{
	"streaming failed: trying again": " cannot go on, and tries again",
	"consuming failed: trying again": " cannot go on, and tries again",
	"request failed":                 " could not do what a client asked for",
}

// other notes warnings and errors, once in a while.
func (t *story) other(l *logLine, at int64) {
	if l.Level != "WARN" && l.Level != "ERROR" {
		return
	}
	key := l.Source + " " + l.Msg
	before, repeats := t.repeats[key]
	t.repeats[key] = at
	if repeats && at-before < repeatPause {
		return
	}
	text := cmp.Or(failures[l.Msg], ": "+l.Msg)
	if err, ok := l.Attrs["err"]; ok {
		text += ": " + cause(fmt.Sprint(err))
	}
	t.say(at, "info", l.Source, "%s%s", l.Source, text)
}

// refused joins a refusal with the simulated crash that it is due to. A batch may
// be sent again in parts, and with others after it.
func (t *story) refused(l *logLine, at int64) {
	upTo := min(l.number("last"), l.number("head"))
	c := t.crashes[l.Source]
	switch {
	case c == nil:
		n := upTo - l.number("first") + 1
		t.say(at, "refused", l.Source, "%s sent %s again; the log refused them.", l.Source, records(n))
	case upTo >= c.last:
		delete(t.crashes, l.Source)
		them, all := "them", "all "+number(c.records)
		if c.records == 1 {
			them, all = "it", "it"
		}
		t.say(at, "refused", l.Source, "%s failed after publishing %s; sent %s again; the log refused %s.", l.Source, records(c.records), them, all)
	}
}

// unanswered notes the crashes that nothing has come of for a while.
func (t *story) unanswered(at int64) {
	for source, c := range t.crashes {
		if at-c.at > resendPatience {
			t.giveUpOn(source, at)
		}
	}
}

func (t *story) giveUpOn(source string, at int64) {
	if c := t.crashes[source]; c != nil {
		delete(t.crashes, source)
		t.say(at, "simulated", source, "%s failed after publishing %s, before it noted that.", source, records(c.records))
	}
}

// number reads an attribute, which may come as text.
func (l *logLine) number(key string) int64 {
	switch v := l.Attrs[key].(type) {
	case float64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}
