package up

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"
)

// record is a line that a process has logged as JSON, with log/slog.
type record struct {
	time  time.Time
	level slog.Level
	msg   string
	attrs []slog.Attr
	// members are the attributes as they came, as a JSON object.
	members []byte
}

// parseRecord returns nil for what is no such line, whole and with nothing
// after it.
func parseRecord(line []byte) *record {
	if !bytes.HasPrefix(line, []byte(`{"time":"`)) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	var head [3]string
	_, _ = d.Token() // the brace that is there
	for i, name := range []string{"time", "level", "msg"} {
		key, _ := d.Token()
		value, err := d.Token()
		text, isText := value.(string)
		if err != nil || key != name || !isText {
			return nil
		}
		head[i] = text
	}
	var r record
	r.members = bytes.TrimPrefix(line[d.InputOffset():], []byte{','})
	r.msg = head[2]
	var err, ending error
	if r.time, err = time.Parse(time.RFC3339Nano, head[0]); err != nil {
		return nil
	}
	if err = r.level.UnmarshalText([]byte(head[1])); err != nil {
		return nil
	}
	r.attrs, err = attributes(d)
	if _, ending = d.Token(); err != nil || !errors.Is(ending, io.EOF) {
		return nil
	}
	r.members = append([]byte{'{'}, r.members...)
	return &r
}

// attributes reads the members of an object and its end.
func attributes(d *json.Decoder) ([]slog.Attr, error) {
	var attrs []slog.Attr
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		value, err := attribute(raw)
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		attrs = append(attrs, slog.Attr{Key: name, Value: value})
	}
	_, err := d.Token()
	return attrs, err
}

func attribute(raw []byte) (slog.Value, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if raw[0] == '{' {
		_, _ = d.Token()
		attrs, err := attributes(d)
		return slog.GroupValue(attrs...), err
	}
	var value any
	err := d.Decode(&value)
	number, isNumber := value.(json.Number)
	if !isNumber {
		return slog.AnyValue(value), err
	}
	if !strings.ContainsAny(number.String(), ".eE") {
		return slog.StringValue(number.String()), nil // however large
	}
	f, err := number.Float64()
	return slog.Float64Value(f), err
}

// logged makes it what the process has logged.
func (r *record) logged() slog.Record {
	logged := slog.NewRecord(r.time, r.level, r.msg, 0)
	logged.AddAttrs(r.attrs...)
	return logged
}
