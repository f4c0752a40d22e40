package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
)

var _ unilog.Log = (*Log)(nil)

// Log is a log in Kafka. It is safe for concurrent use.
type Log struct {
	topic       string
	replication int
	options     []kgo.Opt
	client      *kgo.Client // for what concerns the topic as a whole
	admin       *kadm.Client

	mu      sync.Mutex
	idle    []*reader            // no call uses them
	writers map[int]chan *writer // each holds its writer when no call uses it
	closed  bool
}

// Open connects to Kafka at a URL and returns the log in the topic that it
// names, which is made if it does not exist. Kafka must answer.
func Open(ctx context.Context, url string) (*Log, error) {
	l, err := parse(url)
	if err != nil {
		return nil, err
	}
	if l.client, err = l.connect(); err != nil {
		return nil, fmt.Errorf("kafkalog: %w", err)
	}
	l.admin = kadm.NewClient(l.client)
	err = l.Ping(ctx)
	if err == nil {
		err = l.checkVersion(ctx)
	}
	if err == nil {
		if err = l.ensure(ctx, unilog.Term{}); err != nil {
			err = l.wrap(0, "look for it", err)
		}
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// connect makes a client with connections of its own.
func (l *Log) connect(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(l.options[:len(l.options):len(l.options)], more...)...)
}

// Close ends the connections. No call may be under way.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, turn := range l.writers {
		w := <-turn
		w.drop()
		w.reader.client.Close()
	}
	for _, r := range l.idle {
		r.client.Close()
	}
	l.writers, l.idle = nil, nil
	l.client.Close()
}

// Ping returns an error unless Kafka answers.
func (l *Log) Ping(ctx context.Context) error {
	if err := l.client.Ping(ctx); err != nil {
		return fmt.Errorf("kafkalog: Kafka does not answer: %w", err)
	}
	return nil
}

func (l *Log) wrap(partition int, what string, err error) error {
	return fmt.Errorf("kafkalog: partition %d of topic %s: %s: %w", partition, l.topic, what, err)
}

func (l *Log) newReader(partition int) (*reader, error) {
	client, err := l.connect()
	if err != nil {
		return nil, err
	}
	return &reader{client: client, topic: l.topic, partition: int32(partition)}, nil
}

// withReader calls f with a reader that no other call uses: the one that goes
// on after an offset, if there is one.
func (l *Log) withReader(partition int, after int64, f func(*reader) error) error {
	l.mu.Lock()
	best := -1
	for i, r := range l.idle {
		if int(r.partition) == partition && (best < 0 || r.warm && r.last == after) {
			best = i
		}
	}
	var r *reader
	if best >= 0 {
		r = l.idle[best]
		l.idle = append(l.idle[:best], l.idle[best+1:]...)
	}
	l.mu.Unlock()
	var err error
	if r == nil {
		if r, err = l.newReader(partition); err != nil {
			return err
		}
	}
	err = f(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || l.closed {
		r.client.Close() // a connection may still wait for an answer
	} else {
		l.idle = append(l.idle, r)
	}
	return err
}

// withWriter calls f with the partition's writer, which no other call uses
// meanwhile.
func (l *Log) withWriter(ctx context.Context, partition int, f func(*writer) error) error {
	l.mu.Lock()
	turn := l.writers[partition]
	if turn == nil {
		r, err := l.newReader(partition)
		if err != nil {
			l.mu.Unlock()
			return err
		}
		turn = make(chan *writer, 1)
		turn <- &writer{log: l, reader: r}
		l.writers[partition] = turn
	}
	l.mu.Unlock()
	select {
	case w := <-turn:
		defer func() { turn <- w }()
		return f(w)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tries is how often a call may be fenced by another writer before it fails.
const tries = 5

// write calls f with the partition's writer, and again if it fails without an
// answer of the log: then the writer begins with a new producer, which finds out
// what became of the last try.
func (l *Log) write(ctx context.Context, term unilog.Term, what string, f func(*writer) error) error {
	err := l.withWriter(ctx, term.Partition, func(w *writer) error {
		for try := 1; ; try++ {
			err := f(w)
			var limit *limitError
			if err == nil || answers(err) || errors.As(err, &limit) || ctx.Err() != nil || try == tries {
				return err
			}
			w.drop()
			if w.state.head.Epoch == term.Epoch {
				// It led. Whoever fenced it may be about to say that it leads now, and
				// would be fenced in its turn.
				_ = pause(ctx, time.Duration(1+rand.IntN(2*try))*retryPause)
			}
		}
	})
	if err == nil || answers(err) {
		return err
	}
	if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return l.wrap(term.Partition, what, err)
}

// answers says whether an error is what the log answers, and tells that nothing
// was written.
func answers(err error) bool {
	var (
		fenced  *unilog.FencedError
		foreign *unilog.ForeignLogError
		differs *unilog.DivergedError
		setting *unilog.LogSettingError
		format  *unilog.FormatError
	)
	return errors.Is(err, unilog.ErrAlreadyAppended) || errors.Is(err, unilog.ErrBehind) ||
		errors.As(err, &fenced) || errors.As(err, &foreign) || errors.As(err, &differs) || errors.As(err, &setting) || errors.As(err, &format)
}

// Head implements [unilog.Log].
func (l *Log) Head(ctx context.Context, partition int) (head unilog.Head, err error) {
	err = l.withReader(partition, 0, func(r *reader) error {
		s, err := r.look(ctx)
		if errors.Is(err, errAbsent) {
			return nil
		}
		head = s.head
		return err
	})
	if err != nil {
		return unilog.Head{}, l.wrap(partition, "read the head", err)
	}
	return head, nil
}

// Claim implements [unilog.Log]. It adds partitions to the topic that has fewer
// than the term.
func (l *Log) Claim(ctx context.Context, term unilog.Term) (head int64, err error) {
	err = l.write(ctx, term, "claim", func(w *writer) (err error) {
		head, err = w.claim(ctx, term)
		return err
	})
	if err != nil {
		return 0, err
	}
	return head, nil
}

// Append implements [unilog.Log] by one transaction.
func (l *Log) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (head int64, err error) {
	records, err := encode(term, entries)
	if err != nil {
		return 0, err
	}
	err = l.write(ctx, term, "append", func(w *writer) (err error) {
		head, err = w.append(ctx, term, entries[0].Offset, records)
		return err
	})
	return head, err
}

// Reset implements [unilog.Log].
func (l *Log) Reset(ctx context.Context, term unilog.Term, head int64) error {
	return l.write(ctx, term, "reset", func(w *writer) error { return w.reset(ctx, term, head) })
}

// Read implements [unilog.Log].
func (l *Log) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) (entries []unilog.Entry, err error) {
	err = l.withReader(partition, after.Offset, func(r *reader) (err error) {
		entries, err = r.read(ctx, after, limit, wait)
		return err
	})
	if err != nil {
		return nil, l.wrap(partition, "read", err)
	}
	return entries, nil
}

// Trim implements [unilog.Log]. The partition's last record stays: it is where
// the head is known from.
func (l *Log) Trim(ctx context.Context, partition int, upTo int64) error {
	err := l.withReader(partition, upTo, func(r *reader) error { return r.trim(ctx, upTo) })
	if err != nil {
		return l.wrap(partition, "trim", err)
	}
	return nil
}
