package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rocketrides/unilog"
)

// wanted are the settings with which a topic loses nothing that was not trimmed.
var wanted = map[string]string{
	"cleanup.policy":  "delete",
	"retention.ms":    "-1",
	"retention.bytes": "-1",
}

const maxMessageBytes = "max.message.bytes"

// brokersDefault lets the brokers decide how many replicas a topic has.
const brokersDefault = -1

// ensure makes the topic and the partitions that a term needs, if they do not
// exist.
func (l *Log) ensure(ctx context.Context, term unilog.Term) error {
	need := max(term.Partitions, term.Partition+1)
	for {
		_, err := lookUp(ctx, l.client, l.topic, int32(need-1))
		if err == nil {
			return nil
		}
		if errors.Is(err, errAbsent) {
			if _, err = lookUp(ctx, l.client, l.topic, 0); err == nil {
				err = l.extend(ctx, need)
			} else if errors.Is(err, errAbsent) {
				err = l.create(ctx, need)
			}
		}
		if err != nil && !passing(err) {
			return err
		}
		// Brokers learn of it one after the other.
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}

// extend adds partitions to the topic. It may have them by then.
func (l *Log) extend(ctx context.Context, partitions int) error {
	answers, err := l.admin.UpdatePartitions(ctx, partitions, l.topic)
	if err == nil {
		err = answers.Error()
	}
	if errors.Is(err, kerr.InvalidPartitions) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("extend the topic to %d partitions: %w", partitions, err)
	}
	return nil
}

// create makes the topic. It may exist by then.
func (l *Log) create(ctx context.Context, partitions int) error {
	if l.replication != 0 {
		return l.createWith(ctx, partitions, l.replication)
	}
	err := l.createWith(ctx, partitions, 3)
	if errors.Is(err, kerr.InvalidReplicationFactor) { // there are fewer brokers, also with those that are away
		err = l.createWith(ctx, partitions, brokersDefault)
	}
	return err
}

func (l *Log) createWith(ctx context.Context, partitions, replication int) error {
	bytes := strconv.Itoa(batchBytes)
	settings := map[string]*string{maxMessageBytes: &bytes}
	for name, value := range wanted {
		settings[name] = &value
	}
	if replication != brokersDefault {
		inSync := "1"
		if replication > 2 {
			inSync = "2"
		}
		settings["min.insync.replicas"] = &inSync
	}
	_, err := l.admin.CreateTopic(ctx, int32(partitions), int16(replication), settings, l.topic)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists):
		return nil
	case err != nil && replication == brokersDefault:
		return fmt.Errorf("create the topic with the brokers' default.replication.factor: %w: see that all brokers are up, or give the URL the parameter replication", err)
	case err != nil:
		return fmt.Errorf("create the topic with %d replicas: %w", replication, err)
	}
	return nil
}

// checkSettings sees that the topic keeps what nobody has trimmed, and takes
// the largest record.
func (l *Log) checkSettings(ctx context.Context, partition int) error {
	all, err := l.admin.DescribeTopicConfigs(ctx, l.topic)
	if err != nil {
		return err
	}
	topic, err := all.On(l.topic, nil)
	if err == nil {
		err = topic.Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return nil // nobody can know
	}
	if err != nil {
		return err
	}
	for _, c := range topic.Configs {
		if want := wanted[c.Key]; want != "" && c.MaybeValue() != want {
			return &unilog.LogSettingError{Partition: partition, Setting: "the topic's " + c.Key, Value: c.MaybeValue(), Want: want}
		}
		if n, err := strconv.Atoi(c.MaybeValue()); c.Key == maxMessageBytes && err == nil && n < batchBytes {
			return fmt.Errorf("the topic's %s is %d: set it to %d or more, for the largest record", maxMessageBytes, n, batchBytes)
		}
	}
	return nil
}
