package kafkalog

import (
	"context"
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

func openTwo(t *testing.T) (one, two *Log) {
	t.Helper()
	url := "kafka://" + testenv.SharedKafka(t) + "/" + testenv.StreamName(t)
	logs := make([]*Log, 2)
	for i := range logs {
		var err error
		if logs[i], err = Open(t.Context(), url); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(logs[i].Close)
	}
	return logs[0], logs[1]
}

func term(epoch int64) unilog.Term { return unilog.Term{LogID: "a", Epoch: epoch, Partitions: 1} }

func entry(offset int64) unilog.Entry {
	return unilog.Entry{Offset: offset, Record: unilog.Record{Action: "create", Object: "ride", Data: []byte(`1`)}}
}

// TestKafkaZombie stops a leader at each step of an append, lets another one lead, and
// then lets the first go on.
func TestKafkaZombie(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]int{"before it begins": 0, "before it sends": 1, "before it commits": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			zombie, leader := openTwo(t)
			if _, err := zombie.Append(t.Context(), term(1), []unilog.Entry{entry(1)}); err != nil {
				t.Fatal(err)
			}
			takeOver := func() {
				if head, err := leader.Claim(t.Context(), term(2)); err != nil || head != 1 {
					t.Fatalf("claim: head %d, %v", head, err)
				}
				other := entry(2)
				other.Key = "of the leader's"
				if _, err := leader.Append(t.Context(), term(2), []unilog.Entry{other}); err != nil {
					t.Fatal(err)
				}
			}
			records, err := encode(term(1), []unilog.Entry{entry(2)})
			if err != nil {
				t.Fatal(err)
			}
			// The steps of writer.commit.
			err = zombie.withWriter(t.Context(), 0, func(w *writer) error {
				head := unilog.Head{LogID: "a", Epoch: 1}
				for i, step := range []func() error{
					w.producer.BeginTransaction,
					func() error { return w.produce(t.Context(), sign(records, 2, head)) },
					func() error { return w.producer.EndTransaction(t.Context(), kgo.TryCommit) },
				} {
					if i == steps {
						takeOver()
					}
					if err := step(); err != nil {
						w.drop()
						return err
					}
				}
				return nil
			})
			if err == nil {
				t.Error("the zombie committed")
			}
			var fenced *unilog.FencedError
			if _, err := zombie.Append(t.Context(), term(1), []unilog.Entry{entry(2)}); !errors.As(err, &fenced) || fenced.Newer != 2 {
				t.Errorf("the zombie's next append: %v, want it fenced by epoch 2", err)
			}
			if _, err := leader.Append(t.Context(), term(2), []unilog.Entry{entry(3)}); err != nil {
				t.Error(err)
			}
			read, err := leader.Read(t.Context(), 0, unilog.Cursor{}, 10, 0)
			if err != nil || len(read) != 3 || read[1].Key != "of the leader's" {
				t.Errorf("the log holds %v, %v", read, err)
			}
		})
	}
}

// TestKafkaResetCutShort sees that the next leader finishes a reset whose leader died
// before it deleted the entries.
func TestKafkaResetCutShort(t *testing.T) {
	t.Parallel()
	one, two := openTwo(t)
	if _, err := one.Append(t.Context(), term(1), []unilog.Entry{entry(1), entry(2)}); err != nil {
		t.Fatal(err)
	}
	err := one.withWriter(t.Context(), 0, func(w *writer) error {
		return w.commit(t.Context(), []*kgo.Record{marker(markerReset, unilog.Head{LogID: "a", Epoch: 1, Offset: 500})})
	})
	if err != nil {
		t.Fatal(err)
	}
	if head, err := two.Claim(t.Context(), term(2)); err != nil || head != 500 {
		t.Fatalf("claim: head %d, %v", head, err)
	}
	if read, err := two.Read(t.Context(), 0, unilog.Cursor{}, 10, 0); err != nil || len(read) != 0 {
		t.Errorf("after the reset it reads %v, %v", read, err)
	}
	if _, err := two.Append(t.Context(), term(2), []unilog.Entry{entry(501)}); err != nil {
		t.Error(err)
	}
}

// TestKafkaAppendWhoseAnswerWasLost sees that the next call finds out what became of
// a transaction.
func TestKafkaAppendWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{false, true} {
		log, _ := openTwo(t)
		if _, err := log.Claim(t.Context(), term(1)); err != nil {
			t.Fatal(err)
		}
		records, err := encode(term(1), []unilog.Entry{entry(1)})
		if err != nil {
			t.Fatal(err)
		}
		err = log.withWriter(t.Context(), 0, func(w *writer) error {
			defer w.drop()
			err := w.producer.BeginTransaction()
			if err == nil {
				err = w.produce(t.Context(), sign(records, 1, unilog.Head{LogID: "a", Epoch: 1}))
			}
			if err == nil && committed {
				err = w.producer.EndTransaction(t.Context(), kgo.TryCommit)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		head, err := log.Append(t.Context(), term(1), []unilog.Entry{entry(1)})
		if head != 1 || errors.Is(err, unilog.ErrAlreadyAppended) != committed || !committed && err != nil {
			t.Errorf("the transaction committed: %v; head %d, %v", committed, head, err)
		}
	}
}

// TestKafkaCancelledAppend cancels while another call has the partition.
func TestKafkaCancelledAppend(t *testing.T) {
	t.Parallel()
	log, _ := openTwo(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := log.withWriter(t.Context(), 0, func(*writer) error {
		_, err := log.Append(ctx, term(1), []unilog.Entry{entry(1)})
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled append says %v", err)
	}
}
