package kafkalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rocketrides/unilog"
)

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
	settings := map[string]*string{}
	for _, w := range wanted {
		if w.name != segmentBytes { // the brokers' default is more
			settings[w.name] = &w.value
		}
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
