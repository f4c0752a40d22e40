package kafkalog

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rocketrides/unilog"
)

// errAbsent says that the topic, or the partition in it, does not exist.
var errAbsent = errors.New("the topic's partition does not exist")

// errNothing says that a broker sent nothing where it has something, as one
// does that slows its clients down.
var errNothing = errors.New("the broker sent nothing although it has more")

// errOther is not what a broker does.
var errOther = errors.New("the broker answered for another partition")

const (
	// fetchBytes bounds what one request brings, or it is one batch. It is compressed:
	// there may be twenty times as much in it.
	fetchBytes = 256 << 10
	// patience bounds how long a request is tried again whose broker does not
	// lead the partition, or does not answer, unless its context ends sooner.
	patience = 10 * time.Second
	// retryPause is between two tries.
	retryPause = 50 * time.Millisecond
)

// reader reads a partition for one caller at a time. It has connections of its
// own: a broker answers the requests of one in their order, and a read waits.
type reader struct {
	client    *kgo.Client
	topic     string
	partition int32

	place *place // nil if it has to be looked up
	state state  // as last looked

	// What read goes on with.
	warm     bool           // the rest is of use
	home     place          // where next was found: elsewhere it means another record
	last     int64          // the offset after which it goes on
	position string         // that entry's, if it is known
	next     int64          // the Kafka offset of what it fetches next
	stable   int64          // what can be fetched ends before it
	ahead    []unilog.Entry // fetched already
}

// place is where a partition is. A broker refuses requests for another topic, or
// another time of its leading: as long as it does not, no record has changed.
type place struct {
	topicID       [16]byte
	leader, epoch int32
	partitions    int // of the topic
}

// state is a partition's log, as a broker has it. The records of a topic never
// change: while all the rest is the same, so is the head.
type state struct {
	topicID    [16]byte
	epoch      int32 // of the broker that leads the partition
	start, end int64 // the Kafka offsets of the first record, and after the last stable one
	head       unilog.Head
	at         int64  // the Kafka offset of the last record, -1 if there is none
	marker     string // what that is
}

// look returns the state of the partition, which is read again if it has changed.
func (r *reader) look(ctx context.Context) (state, error) {
	err := r.retry(ctx, func() error {
		r.place = nil // a topic that was made anew has another id, and nothing else tells
		if err := r.locate(ctx); err != nil {
			return err
		}
		s := state{topicID: r.place.topicID, epoch: r.place.epoch, at: -1}
		var err error
		if s.start, err = r.list(ctx, listFirst); err != nil {
			return err
		}
		if s.end, err = r.list(ctx, listStable); err != nil {
			return err
		}
		if s.topicID == r.state.topicID && s.epoch == r.state.epoch && s.start == r.state.start && s.end == r.state.end {
			return nil
		}
		if err := r.readHead(ctx, &s); err != nil {
			return err
		}
		r.state = s
		return nil
	})
	return r.state, err
}

// readHead finds the last record, from the end on: what is there besides are
// the ends of transactions, and those that were aborted.
func (r *reader) readHead(ctx context.Context, s *state) error {
	for back := int64(2); s.end > s.start; back *= 8 {
		from := max(s.start, s.end-back)
		var last *kgo.Record
		for next := from; next < s.end; {
			f, err := r.fetch(ctx, next, fetchBytes, 0)
			if err != nil {
				return err
			}
			if len(f.records) > 0 {
				last = f.records[len(f.records)-1]
			}
			if f.next == next {
				return errNothing
			}
			next = f.next
		}
		if last != nil {
			s.at, s.marker = last.Offset, value(last, headerMarker)
			var err error
			s.head, err = headOf(last)
			return err
		}
		if from == s.start {
			return nil
		}
	}
	return nil
}

// retry calls f again as long as its error says that the partition's leader is
// another one, or that a broker does not answer.
func (r *reader) retry(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil || !passing(err) {
			return err
		}
		r.place = nil
		if pause(ctx, retryPause) != nil {
			return err
		}
	}
}

// passing says whether an error may be gone after a look for the leader.
func passing(err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) {
		// Out of range: the first record is another one by now.
		return code.Retriable || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.OffsetOutOfRange)
	}
	var dial *net.OpError
	var ended *kgo.ErrFirstReadEOF // a broker that dies as it is greeted
	return errors.Is(err, errNothing) || kgo.IsRetryableBrokerErr(err) || errors.As(err, &dial) || errors.As(err, &ended)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// locate looks up where the partition is, unless that is known.
func (r *reader) locate(ctx context.Context) error {
	if r.place != nil {
		return nil
	}
	p, err := lookUp(ctx, r.client, r.topic, r.partition)
	if errors.Is(err, errAbsent) { // or this broker was not told yet
		for _, broker := range r.client.DiscoveredBrokers() {
			if found, lookErr := lookUp(ctx, broker, r.topic, r.partition); lookErr == nil {
				p, err = found, nil
				break
			}
		}
	}
	if err != nil {
		return err
	}
	r.place = p
	return nil
}

// lookUp asks where a partition is.
func lookUp(ctx context.Context, broker kmsg.Requestor, topic string, partition int32) (*place, error) {
	req := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, broker)
	if err != nil {
		return nil, err
	}
	if len(resp.Topics) != 1 {
		return nil, errAbsent
	}
	found := &resp.Topics[0]
	if found.ErrorCode == kerr.UnknownTopicOrPartition.Code {
		return nil, errAbsent
	}
	if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
		return nil, err
	}
	for _, p := range found.Partitions {
		if p.Partition != partition {
			continue
		}
		if err := kerr.ErrorForCode(p.ErrorCode); err != nil && p.Leader < 0 {
			return nil, err
		}
		return &place{topicID: found.TopicID, leader: p.Leader, epoch: p.LeaderEpoch, partitions: len(found.Partitions)}, nil
	}
	return nil, errAbsent
}

// What list can be asked for, in Kafka's protocol: the Kafka offset of the first
// record, and the one before which all transactions have ended.
const (
	listFirst  = -2
	listStable = -1
)

// list asks for one of them.
func (r *reader) list(ctx context.Context, which int64) (int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, 1
	topic, partition := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
	topic.Topic = r.topic
	partition.Partition, partition.CurrentLeaderEpoch, partition.Timestamp = r.partition, r.place.epoch, which
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, r.client.Broker(int(r.place.leader)))
	if err != nil {
		return 0, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, errOther
	}
	found := resp.Topics[0].Partitions[0]
	return found.Offset, kerr.ErrorForCode(found.ErrorCode)
}

// fetched is what one request brought.
type fetched struct {
	records []*kgo.Record
	next    int64 // the Kafka offset to go on with
	stable  int64 // the one before which all transactions have ended
}

// fetch returns committed records from a Kafka offset on, which it waits for.
// There may be none, though it goes on: those of aborted transactions and the
// ends of transactions are left out.
func (r *reader) fetch(ctx context.Context, from int64, most int32, wait time.Duration) (f fetched, err error) {
	if err := r.locate(ctx); err != nil {
		return f, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.IsolationLevel, req.SessionEpoch = -1, 1, -1
	req.MinBytes, req.MaxBytes, req.MaxWaitMillis = 1, most, int32(wait.Milliseconds())
	topic, partition := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, topic.TopicID = r.topic, r.place.topicID
	partition.Partition, partition.CurrentLeaderEpoch = r.partition, r.place.epoch
	partition.FetchOffset, partition.PartitionMaxBytes = from, most
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, r.client.Broker(int(r.place.leader)))
	if err != nil {
		return f, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return f, err
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return f, errOther
	}
	opts := kgo.ProcessFetchPartitionOpts{
		Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: r.topic, Partition: r.partition,
	}
	found, next := kgo.ProcessFetchPartition(opts, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	return fetched{records: found.Records, next: max(next, from), stable: found.LastStableOffset}, found.Err
}
