package redislog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/unilog"
)

var _ unilog.Reporter = (*Log)(nil)

// reportsKey names the hash with the reports of all partitions, in the slot of the first
// one. A field is <partition>/<name>, its value <offset>/<unix milliseconds>.
func (l *Log) reportsKey() string { return l.beside(0, "consumers") }

// Report implements [unilog.Reporter] by one HSET.
func (l *Log) Report(ctx context.Context, name string, at map[int]unilog.Cursor) error {
	if len(at) == 0 {
		return nil
	}
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	set := l.client.B().Hset().Key(l.reportsKey()).FieldValue()
	for partition, c := range at {
		set = set.FieldValue(strconv.Itoa(partition)+"/"+name, strconv.FormatInt(c.Offset, 10)+"/"+now)
	}
	err := l.client.Do(ctx, set.Build()).Error()
	l.lines.heard(err)
	return l.reported("report to", err)
}

// Reports implements [unilog.Reporter]. What somebody else has put into the hash it
// passes over.
func (l *Log) Reports(ctx context.Context) ([]unilog.Report, error) {
	all, err := l.client.Do(ctx, l.client.B().Hgetall().Key(l.reportsKey()).Build()).AsStrMap()
	l.lines.heard(err)
	if err != nil {
		return nil, l.reported("read", err)
	}
	reports := make([]unilog.Report, 0, len(all))
	for field, value := range all {
		if r, ok := parseReport(field, value); ok {
			reports = append(reports, r)
		}
	}
	return reports, nil
}

func parseReport(field, value string) (r unilog.Report, ok bool) {
	partition, name, _ := strings.Cut(field, "/")
	offset, at, _ := strings.Cut(value, "/")
	p, err := strconv.ParseUint(partition, 10, 31)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	ms, err3 := strconv.ParseInt(at, 10, 64)
	if err != nil || err2 != nil || err3 != nil || o < 0 || strconv.FormatUint(p, 10) != partition ||
		!unilog.StorableText(name) || name == "" {
		return r, false
	}
	return unilog.Report{Name: name, Partition: int(p), Offset: o, Time: time.UnixMilli(ms)}, true
}

// ForgetReports implements [unilog.Reporter].
func (l *Log) ForgetReports(ctx context.Context, name string) error {
	reports, err := l.Reports(ctx)
	if err != nil {
		return err
	}
	var fields []string
	for _, r := range reports {
		if r.Name == name {
			fields = append(fields, strconv.Itoa(r.Partition)+"/"+name)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	err = l.client.Do(ctx, l.client.B().Hdel().Key(l.reportsKey()).Field(fields...).Build()).Error()
	l.lines.heard(err)
	return l.reported("delete from", err)
}

func (l *Log) reported(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("redislog: %s the hash %s: %w", what, l.reportsKey(), discreet(err))
}
