package kafkalog

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rocketrides/unilog"
)

const (
	// longestFetch bounds how long a broker may wait for records in one request.
	longestFetch = 5 * time.Second
	// absentPause is between two looks for a partition that does not exist.
	absentPause = 100 * time.Millisecond
)

// read implements [unilog.Log.Read].
func (r *reader) read(ctx context.Context, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	until := time.Now().Add(wait)
	if !r.warm || r.last != after.Offset {
		r.warm, r.ahead, r.last, r.position = false, nil, after.Offset, after.Position
	}
	var entries []unilog.Entry
	for size := 0; ; {
		n := 0
		for n < len(r.ahead) && len(entries)+n < limit && size < unilog.ReadBytes {
			size += r.ahead[n].Size()
			n++
		}
		if n > 0 {
			entries = append(entries, r.ahead[:n]...)
			r.last, r.position = r.ahead[n-1].Offset, r.ahead[n-1].Position
			r.ahead = r.ahead[n:]
		}
		if len(entries) >= limit || size >= unilog.ReadBytes || len(entries) > 0 && r.next >= r.stable {
			return entries, nil
		}
		left := time.Duration(0)
		if len(entries) == 0 {
			left = max(0, time.Until(until))
		}
		err := r.retry(ctx, func() error { return r.fill(ctx, left) })
		if err != nil && len(entries) > 0 {
			r.warm = false
			return entries, nil // the next read meets the error again
		}
		if errors.Is(err, errAbsent) {
			r.warm = false
			if left == 0 {
				return nil, nil
			}
			err = pause(ctx, min(left, absentPause))
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if left == 0 && r.warm && len(r.ahead) == 0 && r.next >= r.stable {
			return entries, nil
		}
	}
}

// fill fetches what follows r.last, and waits for it. It may come back with
// nothing sooner.
func (r *reader) fill(ctx context.Context, wait time.Duration) error {
	if !r.warm || r.place == nil || *r.place != r.home { // a look at the head may have moved it
		if err := r.seek(ctx); err != nil {
			return err
		}
	}
	f, err := r.fetch(ctx, r.next, fetchBytes, min(wait, longestFetch))
	if err != nil {
		return err
	}
	found, err := r.entriesOf(f)
	if len(found) == 0 && err != nil {
		return err
	}
	r.ahead, r.next, r.stable = found, f.next, f.stable
	if err != nil { // after what came before it
		r.next = r.stable
		r.place = nil
	}
	return nil
}

// entriesOf returns the entries after r.last among what was fetched, and what
// is wrong with the record after them.
func (r *reader) entriesOf(f fetched) ([]unilog.Entry, error) {
	entries := make([]unilog.Entry, 0, len(f.records))
	last := r.last
	for _, record := range f.records {
		e, ok, err := decode(record)
		if err != nil {
			return entries, err
		}
		if ok && e.Offset > last {
			entries = append(entries, e)
			last = e.Offset
		}
	}
	return entries, nil
}

// seek finds where to go on reading after r.last. Its position is trusted if
// the record there is the one: the topic may have been made anew.
func (r *reader) seek(ctx context.Context) error {
	r.place = nil
	if err := r.locate(ctx); err != nil {
		return err
	}
	r.home = *r.place
	at, err := strconv.ParseInt(r.position, 10, 64)
	if err != nil {
		return r.search(ctx)
	}
	record, err := r.first(ctx, at, at+1)
	if err != nil && !errors.Is(err, kerr.OffsetOutOfRange) {
		return err
	}
	if record == nil {
		return r.search(ctx)
	}
	if e, ok, err := decode(record); err != nil || !ok || e.Offset != r.last {
		return r.search(ctx)
	}
	r.next, r.stable, r.warm = at+1, at+1, true
	return nil
}

// search finds where to go on reading after r.last, wherever that is.
func (r *reader) search(ctx context.Context) error {
	next, end, err := r.find(ctx, r.last)
	if err != nil {
		return err
	}
	r.next, r.stable, r.warm = next, end, true
	return nil
}

// find returns a Kafka offset from which the first entry after an offset comes
// first, and the one before which all is stable. Offsets rise with those of Kafka.
func (r *reader) find(ctx context.Context, after int64) (low, end int64, err error) {
	if low, err = r.list(ctx, listFirst); err != nil {
		return 0, 0, err
	}
	if end, err = r.list(ctx, listStable); err != nil {
		return 0, 0, err
	}
	for high := end; low < high && after > 0; {
		middle := low + (high-low)/2
		record, err := r.first(ctx, middle, high)
		if err != nil {
			return 0, 0, err
		}
		if record == nil {
			high = middle
			continue
		}
		offset, err := number(record, headerOffset)
		if err != nil {
			return 0, 0, err
		}
		if offset > after {
			high = middle
		} else {
			low = record.Offset + 1
		}
	}
	return low, end, nil
}

// first returns the first committed record from a Kafka offset on and before
// another, nil if there is none. There must be stable records before that.
func (r *reader) first(ctx context.Context, from, before int64) (*kgo.Record, error) {
	for from < before {
		f, err := r.fetch(ctx, from, 1, 0) // a broker returns one batch at least
		if err != nil {
			return nil, err
		}
		if len(f.records) > 0 {
			if f.records[0].Offset < before {
				return f.records[0], nil
			}
			return nil, nil
		}
		if f.next == from {
			return nil, errNothing
		}
		from = f.next
	}
	return nil, nil
}
