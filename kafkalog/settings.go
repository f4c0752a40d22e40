package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rocketrides/unilog"
)

// Setting is what a topic has of a setting, next to what it has to have.
type Setting struct {
	Name, Value string
	// Want is the value, or the least one of a limit.
	Want string
	// Limit says that the setting bounds the largest record. The others let Kafka
	// drop what nobody has trimmed.
	Limit bool
}

// OK says whether the topic has what it has to have.
func (s Setting) OK() bool {
	if !s.Limit {
		return s.Value == s.Want
	}
	has, err := strconv.ParseInt(s.Value, 10, 64)
	want, _ := strconv.ParseInt(s.Want, 10, 64)
	return err != nil || has >= want
}

// The settings that bound a batch.
const (
	maxMessageBytes = "max.message.bytes"
	segmentBytes    = "segment.bytes"
)

// wanted are the settings with which a topic loses nothing that was not trimmed,
// and takes the largest record.
var wanted = []struct {
	name, value string
	limit       bool
}{
	{"cleanup.policy", "delete", false},
	{"retention.ms", "-1", false},
	{"retention.bytes", "-1", false},
	{maxMessageBytes, strconv.Itoa(batchBytes), true},
	{segmentBytes, strconv.Itoa(batchBytes), true},
}

// Settings returns the topic's settings that a log depends on. There are none if the
// user lacks the permission DescribeConfigs, or if the topic does not exist yet.
func (l *Log) Settings(ctx context.Context) ([]Setting, error) {
	found, err := l.settings(ctx)
	if err != nil {
		return nil, fmt.Errorf("kafkalog: settings of topic %s: %w", l.topic, err)
	}
	return found, nil
}

func (l *Log) settings(ctx context.Context) (found []Setting, err error) {
	all, err := l.admin.DescribeTopicConfigs(ctx, l.topic)
	if err != nil {
		return nil, err
	}
	topic, err := all.On(l.topic, nil)
	if err == nil {
		err = topic.Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, w := range wanted {
		for _, c := range topic.Configs {
			if c.Key == w.name {
				found = append(found, Setting{Name: w.name, Value: c.MaybeValue(), Want: w.value, Limit: w.limit})
			}
		}
	}
	return found, nil
}

// limitError says that the topic does not take the largest record. It passes when the
// limit is raised.
type limitError struct{ text string }

func (e *limitError) Error() string { return e.text }

// checkSettings sees that the topic keeps what nobody has trimmed, and takes the
// largest record.
func (l *Log) checkSettings(ctx context.Context, partition int) error {
	found, err := l.settings(ctx)
	if err != nil {
		return err
	}
	for _, s := range found {
		switch {
		case s.OK():
		case s.Limit:
			return &limitError{fmt.Sprintf("the topic's %s is %s: set it to %s or more, for the largest record", s.Name, s.Value, s.Want)}
		default:
			return &unilog.LogSettingError{Partition: partition, Setting: "the topic's " + s.Name, Value: s.Value, Want: s.Want}
		}
	}
	return nil
}

// tooLarge says which limit a batch is over, if that is why it was refused.
func (l *Log) tooLarge(ctx context.Context, partition int, err error) error {
	if !errors.Is(err, kerr.MessageTooLarge) && !errors.Is(err, kerr.RecordListTooLarge) {
		return err
	}
	if setting := l.checkSettings(ctx, partition); setting != nil {
		return setting
	}
	return &limitError{fmt.Sprintf("%v: set the topic's %s and %s to %d or more", err, maxMessageBytes, segmentBytes, batchBytes)}
}
