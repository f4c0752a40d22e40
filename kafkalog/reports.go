package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rocketrides/unilog"
)

var _ unilog.Reporter = (*Log)(nil)

// Report implements [unilog.Reporter]: it commits Kafka's offsets for the group of the
// reader's name. The metadata of each is <offset>/<unix milliseconds>, the offset being
// the log's.
func (l *Log) Report(ctx context.Context, name string, at map[int]unilog.Cursor) error {
	if len(at) == 0 {
		return nil
	}
	ends, err := l.admin.ListCommittedOffsets(ctx, l.topic)
	if err != nil {
		return l.reported(name, "look for the end", err)
	}
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	var offsets kadm.Offsets
	for partition, c := range at {
		next, err := l.after(ctx, partition, c)
		if err != nil {
			return l.reported(name, "look for its place", err)
		}
		// Each transaction ends with a record of Kafka's own. Where that alone follows,
		// nothing is left to read.
		if end, ok := ends.Lookup(l.topic, int32(partition)); ok && end.Offset == next+1 && c.Offset > 0 {
			next = end.Offset
		}
		offsets.AddOffset(l.topic, int32(partition), next, -1)
		o := offsets[l.topic][int32(partition)]
		o.Metadata = strconv.FormatInt(c.Offset, 10) + "/" + now
		offsets[l.topic][int32(partition)] = o
	}
	return l.reported(name, "commit", l.admin.CommitAllOffsets(ctx, name, offsets))
}

// after is the Kafka offset from which a reader goes on.
func (l *Log) after(ctx context.Context, partition int, c unilog.Cursor) (next int64, err error) {
	if position, err := strconv.ParseInt(c.Position, 10, 64); err == nil {
		return position + 1, nil
	}
	err = l.withReader(partition, c.Offset, func(r *reader) error {
		return r.retry(ctx, func() (err error) {
			if err = r.locate(ctx); err == nil {
				next, _, err = r.find(ctx, c.Offset)
			}
			return err
		})
	})
	return next, err
}

// Reports implements [unilog.Reporter]. It asks for the offsets of all groups that it may
// describe, and passes over those that have none with such metadata in the topic.
func (l *Log) Reports(ctx context.Context) ([]unilog.Report, error) {
	groups, err := l.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafkalog: list the groups: %w", err)
	}
	var reports []unilog.Report
	for name, group := range l.admin.FetchManyOffsets(ctx, groups.Groups()...) {
		if errors.Is(group.Err, kerr.GroupAuthorizationFailed) || errors.Is(group.Err, kerr.GroupIDNotFound) {
			continue
		}
		if group.Err != nil {
			return nil, l.reported(name, "read the offsets", group.Err)
		}
		for partition, o := range group.Fetched[l.topic] {
			offset, at, ok := parseReport(o.Metadata)
			if o.Err == nil && ok && unilog.StorableText(name) {
				reports = append(reports, unilog.Report{Name: name, Partition: int(partition), Offset: offset, Time: at})
			}
		}
	}
	return reports, nil
}

func parseReport(metadata string) (offset int64, at time.Time, ok bool) {
	first, second, _ := strings.Cut(metadata, "/")
	offset, err := strconv.ParseInt(first, 10, 64)
	ms, err2 := strconv.ParseInt(second, 10, 64)
	return offset, time.UnixMilli(ms), err == nil && err2 == nil && offset >= 0
}

// ForgetReports implements [unilog.Reporter]: it deletes the group's offsets in the topic.
func (l *Log) ForgetReports(ctx context.Context, name string) error {
	var topic kadm.TopicsSet
	fetched, err := l.admin.FetchOffsets(ctx, name)
	if err != nil {
		return l.reported(name, "read the offsets", err)
	}
	for partition, o := range fetched[l.topic] {
		if _, _, ok := parseReport(o.Metadata); ok {
			topic.Add(l.topic, partition)
		}
	}
	if len(topic) == 0 {
		return nil
	}
	deleted, err := l.admin.DeleteOffsets(ctx, name, topic)
	if err == nil {
		err = deleted.Error()
	}
	return l.reported(name, "delete the offsets", err)
}

func (l *Log) reported(name, what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("kafkalog: group %s of topic %s: %s: %w", name, l.topic, what, err)
}
