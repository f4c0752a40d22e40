package kafkalog

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// trim deletes entries up to an offset, but never the last record.
func (r *reader) trim(ctx context.Context, upTo int64) error {
	return r.retry(ctx, func() error {
		s, err := r.look(ctx)
		if errors.Is(err, errAbsent) {
			return nil
		}
		if err != nil {
			return err
		}
		at, _, err := r.find(ctx, upTo)
		if at = min(at, s.at); err != nil || at <= s.start {
			return err
		}
		return r.delete(ctx, at)
	})
}

// delete deletes what is before a Kafka offset.
func (r *reader) delete(ctx context.Context, before int64) error {
	return r.retry(ctx, func() error {
		if err := r.locate(ctx); err != nil {
			return err
		}
		req := kmsg.NewPtrDeleteRecordsRequest()
		topic, partition := kmsg.NewDeleteRecordsRequestTopic(), kmsg.NewDeleteRecordsRequestTopicPartition()
		topic.Topic, partition.Partition, partition.Offset = r.topic, r.partition, before
		topic.Partitions = append(topic.Partitions, partition)
		req.Topics = append(req.Topics, topic)
		resp, err := req.RequestWith(ctx, r.client.Broker(int(r.place.leader)))
		if err != nil {
			return err
		}
		if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
			return errOther
		}
		err = kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode)
		if errors.Is(err, kerr.RequestTimedOut) {
			return nil // the leader has deleted them, and a replica that lags will
		}
		return err
	})
}
