package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rocketrides/unilog"
)

// Setting is what a topic, or a broker, has of a setting, next to what it has to have.
type Setting struct {
	// Of is "the topic's" or "a broker's".
	Of          string
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

// String says it in words.
func (s Setting) String() string { return s.Of + " " + s.Name + " is " + s.Value }

// The settings that bound a batch, and, of brokers, a request with one.
const (
	maxMessageBytes = "max.message.bytes"
	segmentBytes    = "segment.bytes"
	requestLimit    = "socket.request.max.bytes"
	requestBytes    = batchBytes + 1<<16
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

// Settings returns the settings that a log depends on: those of the topic, and the
// brokers' least limit of a request. They are left out where the user lacks the
// permission DescribeConfigs, and if the topic does not exist yet.
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
				found = append(found, Setting{Of: "the topic's", Name: w.name, Value: c.MaybeValue(), Want: w.value, Limit: w.limit})
			}
		}
	}
	return append(found, l.requestLimit(ctx)...), nil
}

// requestLimit returns the least of the brokers' limits, if they may be seen.
func (l *Log) requestLimit(ctx context.Context) (least []Setting) {
	brokers, _ := l.admin.ListBrokers(ctx)
	all, _ := l.admin.DescribeBrokerConfigs(ctx, brokers.NodeIDs()...)
	for _, broker := range all {
		for _, c := range broker.Configs {
			n, err := strconv.ParseInt(c.MaybeValue(), 10, 64)
			if c.Key != requestLimit || err != nil {
				continue
			}
			s := Setting{Of: "a broker's", Name: requestLimit, Value: c.MaybeValue(), Want: strconv.Itoa(requestBytes), Limit: true}
			if least == nil {
				least = []Setting{s}
			} else if before, _ := strconv.ParseInt(least[0].Value, 10, 64); n < before {
				least[0] = s
			}
		}
	}
	return least
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
			return &limitError{fmt.Sprintf("%v: set it to %s or more, for the largest record", s, s.Want)}
		default:
			return &unilog.LogSettingError{Partition: partition, Setting: s.Of + " " + s.Name, Value: s.Value, Want: s.Want}
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
