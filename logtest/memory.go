package logtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
)

var _ unilog.Log = (*Memory)(nil)

// Memory is a log in memory, for tests that are not about a broker. It passes the
// suite that every log passes, with any number of partitions, and a test can make
// it lose what it holds, hold what it should not, fail and block. It is safe for
// concurrent use.
//
// It is for tests only. It loses everything with the process, no other process can
// read it, and a test that passes with it says nothing about Redis, Kafka or
// Postgres.
type Memory struct {
	mu         sync.Mutex
	partitions map[int]*partitionLog
	intercept  Interceptor
	limit      int // of entries, 0 if there is none
	reports    map[reader]unilog.Report
}

// partitionLog is guarded by the mutex of its log.
type partitionLog struct {
	head    unilog.Head
	entries []unilog.Entry // by offset; not all of them follow each other
	grown   chan struct{}  // nil unless a reader waits; closed when entries were added
}

// NewMemory returns an empty log.
func NewMemory() *Memory {
	return &Memory{partitions: map[int]*partitionLog{}, reports: map[reader]unilog.Report{}}
}

// Call is a call of one of the methods of [unilog.Log].
type Call struct {
	// Method is its name: "Append".
	Method    string
	Partition int
	// Offset is that of the first entry of an Append, the cursor of a Read, the head
	// of a Reset, or how far a Trim goes; 0 in the other calls.
	Offset int64
}

// Interceptor decides what becomes of a call. do serves the call and returns the
// log's answer; the caller gets what the interceptor returns. To fail a call, it
// returns an error without do. To lose an answer, it calls do and then returns an
// error of its own. To block, it waits for ctx, or for the test. To send twice, it
// calls do twice. To watch, it returns do(ctx). It runs in the caller's goroutine,
// so calls that are concurrent run it concurrently.
type Interceptor func(ctx context.Context, call Call, do func(context.Context) error) error

// Intercept gives each call that begins from now on to an interceptor, instead of
// the one before; nil ends that. Calls that have begun, such as a Read that waits,
// go on as they were. Methods that are not of [unilog.Log] are never intercepted.
func (m *Memory) Intercept(i Interceptor) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.intercept = i
}

// Entries returns all entries that a partition holds, in order.
func (m *Memory) Entries(partition int) []unilog.Entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return copies(m.of(partition).entries)
}

// Lose forgets the end of a partition, as a failover to a replica that lags: the
// entries after an offset are gone, and it is the head, unless the head is before
// it. The last claim stays.
func (m *Memory) Lose(partition int, after int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(partition)
	p.head.Offset = min(p.head.Offset, after)
	p.entries = p.entries[:p.upTo(after)]
}

// Wipe loses everything, claims and reports included, as FLUSHALL does in Redis.
func (m *Memory) Wipe() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.reports)
	for _, p := range m.partitions { // readers may wait for one of them
		p.head, p.entries = unilog.Head{}, nil
	}
}

// Remove takes entries out of a partition, which makes gaps in it. The head stays.
// Trim, which needs no term, makes one at the beginning.
func (m *Memory) Remove(partition int, offsets ...int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(partition)
	p.entries = slices.DeleteFunc(p.entries, func(e unilog.Entry) bool { return slices.Contains(offsets, e.Offset) })
}

// Put writes an entry at its offset in its partition, over what is there, as a
// stranger or a copy of the database would: the log has diverged then. An entry
// after the head becomes the head: the log may be ahead of its database then.
func (m *Memory) Put(entry unilog.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.of(entry.Partition)
	before, upTo := p.upTo(entry.Offset-1), p.upTo(entry.Offset)
	p.entries = slices.Replace(p.entries, before, upTo, copies([]unilog.Entry{entry})...)
	p.head.Offset = max(p.head.Offset, entry.Offset)
	p.wake()
}

// SetLogID gives a partition, with what it holds, to another database.
func (m *Memory) SetLogID(partition int, logID string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(partition).head.LogID = logID
}

// SetLimit bounds how many entries the log holds, in all its partitions together.
// Append answers [unilog.ErrLogFull] if there would be more; nothing that is held
// is lost. 0 ends that.
func (m *Memory) SetLimit(entries int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.limit = entries
}

// Head implements [unilog.Log].
func (m *Memory) Head(ctx context.Context, partition int) (unilog.Head, error) {
	return serve(ctx, m, Call{Method: "Head", Partition: partition}, func(_ context.Context, p *partitionLog) (unilog.Head, error) {
		return p.head, nil
	})
}

// Claim implements [unilog.Log]. With a higher epoch, a test fences a leader.
func (m *Memory) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	return serve(ctx, m, Call{Method: "Claim", Partition: term.Partition}, func(_ context.Context, p *partitionLog) (int64, error) {
		if err := p.refusal(term); err != nil {
			return 0, err
		}
		p.head.LogID, p.head.Epoch, p.head.Partitions = term.LogID, term.Epoch, term.Partitions
		return p.head.Offset, nil
	})
}

// Append implements [unilog.Log].
func (m *Memory) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if len(entries) == 0 {
		return 0, errors.New("logtest: nothing to append")
	}
	for i, e := range entries {
		if e.Offset != entries[0].Offset+int64(i) || e.Partition != term.Partition {
			return 0, fmt.Errorf("logtest: entries must follow each other in partition %d: offset %d of partition %d comes as number %d after %d",
				term.Partition, e.Offset, e.Partition, i, entries[0].Offset)
		}
	}
	call := Call{Method: "Append", Partition: term.Partition, Offset: entries[0].Offset}
	return serve(ctx, m, call, func(_ context.Context, p *partitionLog) (int64, error) {
		if head, err := p.check(term, entries); err != nil {
			return head, err
		}
		if m.isFull(len(entries)) {
			return 0, unilog.ErrLogFull
		}
		return p.append(term, entries), nil
	})
}

// Reset implements [unilog.Log].
func (m *Memory) Reset(ctx context.Context, term unilog.Term, head int64) error {
	call := Call{Method: "Reset", Partition: term.Partition, Offset: head}
	_, err := serve(ctx, m, call, func(_ context.Context, p *partitionLog) (none struct{}, err error) {
		if err := p.refusal(term); err != nil {
			return none, err
		}
		p.head.LogID, p.head.Epoch, p.head.Offset, p.entries = term.LogID, term.Epoch, head, nil
		return none, nil
	})
	return err
}

// Read implements [unilog.Log]. It goes by the cursor's offset alone.
func (m *Memory) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	call := Call{Method: "Read", Partition: partition, Offset: after.Offset}
	return serve(ctx, m, call, func(ctx context.Context, p *partitionLog) ([]unilog.Entry, error) {
		overdue := time.After(wait)
		for {
			rest := p.entries[p.upTo(after.Offset):]
			if len(rest) > 0 || wait <= 0 {
				return copies(rest[:upToBytes(rest, limit)]), nil
			}
			if p.grown == nil {
				p.grown = make(chan struct{})
			}
			grown := p.grown
			m.mu.Unlock()
			select {
			case <-grown:
			case <-overdue:
				wait = 0 // one last look
			case <-ctx.Done():
			}
			m.mu.Lock()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
	})
}

// Trim implements [unilog.Log]. It removes exactly what it is told to.
func (m *Memory) Trim(ctx context.Context, partition int, upTo int64) error {
	call := Call{Method: "Trim", Partition: partition, Offset: upTo}
	_, err := serve(ctx, m, call, func(_ context.Context, p *partitionLog) (none struct{}, err error) {
		p.entries = slices.Delete(p.entries, 0, p.upTo(upTo))
		return none, nil
	})
	return err
}

// serve passes a call to the interceptor, or else to f, which holds the lock.
func serve[T any](ctx context.Context, m *Memory, call Call, f func(context.Context, *partitionLog) (T, error)) (T, error) {
	var result, none T
	var answer error
	do := func(ctx context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if answer = ctx.Err(); answer == nil {
			result, answer = f(ctx, m.of(call.Partition))
		}
		return answer
	}
	m.mu.Lock()
	intercept := m.intercept
	m.mu.Unlock()
	if intercept == nil {
		err := do(ctx)
		return result, err
	}
	err := intercept(ctx, call, do)
	if !errors.Is(err, answer) { // it is not the log's answer
		return none, err
	}
	return result, err
}

// of returns a partition. The caller holds the lock.
func (m *Memory) of(partition int) *partitionLog {
	p := m.partitions[partition]
	if p == nil {
		p = &partitionLog{}
		m.partitions[partition] = p
	}
	return p
}

// refusal is why a term may not write.
func (p *partitionLog) refusal(term unilog.Term) error {
	if p.head.LogID != "" && p.head.LogID != term.LogID {
		return &unilog.ForeignLogError{Partition: term.Partition, LogID: term.LogID, Theirs: p.head.LogID}
	}
	if p.head.Epoch > term.Epoch {
		return &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: p.head.Epoch}
	}
	return nil
}

// isFull says whether there is no room for so many entries more. The caller holds
// the lock.
func (m *Memory) isFull(more int) bool {
	for _, p := range m.partitions {
		more += len(p.entries)
	}
	return m.limit > 0 && more > m.limit
}

// check is why entries cannot be appended, with the head if that says so.
func (p *partitionLog) check(term unilog.Term, entries []unilog.Entry) (int64, error) {
	if err := p.refusal(term); err != nil {
		return 0, err
	}
	first := entries[0].Offset
	if first > p.head.Offset+1 {
		return p.head.Offset, unilog.ErrBehind
	}
	if first <= p.head.Offset {
		// Two histories that have parted never meet again: if the last entry that
		// both have is the same, so are those before it.
		sent := entries[min(p.head.Offset-first, int64(len(entries)-1))]
		if i := p.upTo(sent.Offset); i > 0 && p.entries[i-1].Offset == sent.Offset && !same(p.entries[i-1], sent) {
			return 0, &unilog.DivergedError{Partition: term.Partition, Offset: sent.Offset}
		}
		return p.head.Offset, unilog.ErrAlreadyAppended
	}
	return 0, nil
}

func (p *partitionLog) append(term unilog.Term, entries []unilog.Entry) (head int64) {
	p.head.LogID, p.head.Epoch = term.LogID, term.Epoch
	p.head.Offset = entries[len(entries)-1].Offset
	p.entries = append(p.entries, copies(entries)...)
	p.wake()
	return p.head.Offset
}

// upToBytes is how many entries a read takes.
func upToBytes(entries []unilog.Entry, limit int) int {
	n := 0
	for size := 0; n < min(limit, len(entries)) && size < unilog.ReadBytes; n++ {
		size += entries[n].Size()
	}
	return n
}

// upTo is the number of entries up to and including an offset.
func (p *partitionLog) upTo(offset int64) int {
	return sort.Search(len(p.entries), func(i int) bool { return p.entries[i].Offset > offset })
}

func (p *partitionLog) wake() {
	if p.grown != nil {
		close(p.grown)
		p.grown = nil
	}
}

func same(a, b unilog.Entry) bool {
	return a.Action == b.Action && a.Object == b.Object && a.Key == b.Key && a.ContentType == b.ContentType && bytes.Equal(a.Payload(), b.Payload()) &&
		maps.Equal(a.Headers, b.Headers) && a.StagedAt.UnixMicro() == b.StagedAt.UnixMicro()
}

func copies(entries []unilog.Entry) []unilog.Entry {
	out := slices.Clone(entries)
	for i := range out {
		e := &out[i]
		e.SetPayload(bytes.Clone(e.Payload()), e.ContentType)
		e.Headers = maps.Clone(e.Headers)
		if len(e.Headers) == 0 {
			e.Headers = nil
		}
		e.StagedAt = time.UnixMicro(e.StagedAt.UnixMicro()).UTC()
		e.Position = ""
	}
	return out
}
