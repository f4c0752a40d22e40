package kafkalog

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
)

const (
	// batchBytes holds the largest record with its headers, which may be escaped once
	// more than they are stored.
	batchBytes = 2*unilog.MaxStoredBytes + 1<<16
	// transactionTimeout is after how long a broker ends the transaction of a
	// leader that died in it, unless the next leader does sooner. Readers wait
	// for that.
	transactionTimeout = 10 * time.Second
	// commitWait bounds one request that waits for a transaction's end.
	commitWait = 500 * time.Millisecond
)

// errElsewhere says that a record got another place than the one that follows
// what the writer has seen: the topic is another one, or somebody else writes.
var errElsewhere = errors.New("somebody else has written to the topic, or it was made anew")

// writer writes to a partition for one caller at a time.
//
// Its producer has the partition's transactional id. Each new one with this id,
// here or in another process, fences those before it: what they have begun is
// rolled back, and they can commit nothing more. So what the writer has read
// after it made its producer stays true for as long as it can commit.
type writer struct {
	log      *Log
	reader   *reader
	producer *kgo.Client // nil if the next call must make one
	term     unilog.Term // whose it is
	state    state       // what the producer goes on from
}

// refusal is why a term may not write to a log.
func refusal(term unilog.Term, head unilog.Head) error {
	if head.LogID != "" && head.LogID != term.LogID {
		return &unilog.ForeignLogError{Partition: term.Partition, LogID: term.LogID, Theirs: head.LogID}
	}
	if head.Epoch > term.Epoch {
		return &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: head.Epoch}
	}
	return nil
}

// drop gives the producer up. What it has begun is rolled back by the next one,
// or by its timeout.
func (w *writer) drop() {
	if w.producer != nil {
		w.producer.Close()
		w.producer = nil
	}
}

// check looks at the log, and whether a term may write to it. If it is not as
// the producer left it, that one can commit no more: another was begun, or it is
// another topic.
func (w *writer) check(ctx context.Context, term unilog.Term) error {
	s, err := w.reader.look(ctx)
	if errors.Is(err, errAbsent) {
		s, err = state{at: -1}, nil
	}
	if err == nil {
		err = refusal(term, s.head)
	}
	if err == nil {
		w.state = s
	}
	return err
}

// begin makes a producer for a term, unless there is one.
func (w *writer) begin(ctx context.Context, term unilog.Term) error {
	if w.producer != nil && w.term.LogID == term.LogID && w.term.Epoch == term.Epoch {
		return nil
	}
	if err := w.log.ensure(ctx, term); err != nil {
		return err
	}
	// An earlier epoch must not fence the leader.
	if err := w.check(ctx, term); err != nil {
		return err
	}
	w.drop()
	producer, err := w.log.connect(
		kgo.TransactionalID(w.log.topic+"-"+strconv.Itoa(term.Partition)),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ConcurrentTransactionsBackoff(2*time.Millisecond),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopicAlways(),
		kgo.DefaultProduceTopic(w.log.topic),
		kgo.ProducerBatchMaxBytes(batchBytes),
		kgo.MaxBufferedRecords(1<<30), // the caller bounds them
		kgo.ProducerLinger(0),
		kgo.UnknownTopicRetries(2),
	)
	if err != nil {
		return err
	}
	w.producer, w.term = producer, term
	if _, _, err = producer.ProducerID(ctx); err == nil {
		err = w.check(ctx, term) // it may have been claimed meanwhile
	}
	if err == nil && w.state.marker == markerReset && w.state.start < w.state.at {
		err = w.reader.delete(ctx, w.state.at) // a reset was cut short
	}
	if err != nil {
		w.drop()
	}
	return err
}

// commit writes records in one transaction and waits until readers can see
// them. After an error the producer is given up: the next one's beginning
// decides what becomes of the transaction.
func (w *writer) commit(ctx context.Context, records []*kgo.Record) (err error) {
	defer func() {
		if err != nil {
			w.drop()
		}
	}()
	if err := w.producer.BeginTransaction(); err != nil {
		return err
	}
	if err := w.produce(ctx, records); err != nil {
		return w.log.tooLarge(ctx, int(w.reader.partition), err)
	}
	for i, r := range records {
		if r.Offset != w.state.end+int64(i) {
			return errElsewhere
		}
	}
	if err := w.producer.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return err
	}
	// The transaction's end is what comes after them. It is there soon.
	end := w.state.end + int64(len(records))
	return w.reader.retry(ctx, func() error {
		for {
			f, err := w.reader.fetch(ctx, end, 1, commitWait)
			if err != nil {
				return err
			}
			if f.stable > end {
				w.state.end = f.stable
				break
			}
		}
		last := records[len(records)-1]
		w.state.at, w.state.marker = last.Offset, value(last, headerMarker)
		w.state.head, err = headOf(last)
		w.reader.state = w.state
		return err
	})
}

// produce sends records and waits until all of them are acknowledged.
func (w *writer) produce(ctx context.Context, records []*kgo.Record) error {
	errs := make(chan error, len(records))
	for _, r := range records {
		r.Partition = w.reader.partition
		w.producer.Produce(ctx, r, func(_ *kgo.Record, err error) { errs <- err })
	}
	for range records {
		select {
		case err := <-errs:
			if err != nil {
				return err
			}
		case <-ctx.Done(): // which does not end what a broker has been sent
			return ctx.Err()
		}
	}
	return nil
}

// claim implements [unilog.Log.Claim].
func (w *writer) claim(ctx context.Context, term unilog.Term) (int64, error) {
	if err := w.check(ctx, term); err != nil {
		return 0, err
	}
	if w.reader.place == nil || w.reader.place.partitions < term.Partitions {
		if err := w.log.ensure(ctx, term); err != nil {
			return 0, err
		}
	}
	if err := w.begin(ctx, term); err != nil {
		return 0, err
	}
	head := w.state.head
	if head.LogID != term.LogID || head.Epoch != term.Epoch {
		if err := w.log.checkSettings(ctx, term.Partition); err != nil {
			return 0, err
		}
	} else if head.Partitions == term.Partitions {
		return head.Offset, nil
	}
	head.LogID, head.Epoch, head.Partitions = term.LogID, term.Epoch, term.Partitions
	return head.Offset, w.commit(ctx, []*kgo.Record{marker(markerClaim, head)})
}

// append implements [unilog.Log.Append].
func (w *writer) append(ctx context.Context, term unilog.Term, offset int64, records []*kgo.Record) (int64, error) {
	if err := w.begin(ctx, term); err != nil {
		return 0, err
	}
	if w.state.head.Offset != offset-1 {
		// Before it refuses, it sees that the log is as it remembers.
		if err := w.check(ctx, term); err != nil {
			return 0, err
		}
		if err := w.begin(ctx, term); err != nil {
			return 0, err
		}
	}
	head := w.state.head
	if head.Offset < offset-1 {
		return head.Offset, unilog.ErrBehind
	}
	if head.Offset >= offset {
		return w.compare(ctx, offset, records)
	}
	head.LogID, head.Epoch = term.LogID, term.Epoch
	if err := w.commit(ctx, sign(records, offset, head)); err != nil {
		return 0, err
	}
	return w.state.head.Offset, nil
}

// compare refuses entries that the log has, or others in their places. Two
// histories that have parted never meet again: if the last entry that both have
// is the same, so are those before it.
func (w *writer) compare(ctx context.Context, offset int64, records []*kgo.Record) (int64, error) {
	head := w.state.head.Offset
	common := min(head, offset+int64(len(records))-1)
	var held *kgo.Record
	err := w.reader.retry(ctx, func() error {
		if err := w.reader.locate(ctx); err != nil {
			return err
		}
		at, end, err := w.reader.find(ctx, common-1)
		if err == nil {
			held, err = w.reader.first(ctx, at, end)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	if held != nil && value(held, headerMarker) == "" && value(held, headerOffset) == strconv.FormatInt(common, 10) &&
		!same(held, records[common-offset]) {
		return 0, &unilog.DivergedError{Partition: int(w.reader.partition), Offset: common}
	}
	return head, unilog.ErrAlreadyAppended
}

// reset implements [unilog.Log.Reset]. The marker comes first: a reset that is
// cut short between the two is finished by the next producer.
func (w *writer) reset(ctx context.Context, term unilog.Term, offset int64) error {
	if err := w.begin(ctx, term); err != nil {
		return err
	}
	head := w.state.head
	head.LogID, head.Epoch, head.Offset = term.LogID, term.Epoch, offset
	if err := w.commit(ctx, []*kgo.Record{marker(markerReset, head)}); err != nil {
		return err
	}
	return w.reader.delete(ctx, w.state.at)
}
