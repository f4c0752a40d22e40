package unilog

import (
	"errors"
	"fmt"
	"time"
)

// Start is where a consumer or a deliverer begins whose name has no checkpoint yet: one of
// its fields, or none for the first record that there ever was. It says nothing to one
// that has begun. Partitions that are added later are read from their beginning, whatever
// it says: all that is in them came after the start.
type Start struct {
	// Head is where the log is published to when the name is registered. All that
	// commits after that is applied, and so may a little of what committed before.
	Head bool
	// Offset is that of the first record, in each partition; a partition that is not as
	// far begins at its head.
	Offset int64
	// Time begins at the first record that was numbered at that time or later. The archive
	// knows this of batches: up to one of them, 5,000 records of a partition or so, may
	// come that were numbered before, and none is missed.
	Time time.Time
}

// Check returns an error unless at most one of the fields is set.
func (s Start) Check() error {
	set := 0
	for _, is := range []bool{s.Head, s.Offset != 0, !s.Time.IsZero()} {
		if is {
			set++
		}
	}
	switch {
	case set > 1:
		return errors.New("give one of Head, Offset and Time")
	case s.Offset < 0:
		return fmt.Errorf("its Offset is %d: the first one is 1", s.Offset)
	}
	return nil
}

// NotArchivedError says that the archive no longer has the record at which a consumer was
// to begin or to go on.
type NotArchivedError struct {
	Consumer  string
	Partition int
	// Offset and Time are what was asked for, one of them.
	Offset int64
	Time   time.Time
	// First is the first offset that the archive has, numbered at Since; none if that is
	// zero.
	First int64
	Since time.Time
}

func (e *NotArchivedError) Error() string {
	asked := fmt.Sprintf("at offset %d", e.Offset)
	if e.Offset == 0 {
		asked = "at " + e.Time.UTC().Format(time.RFC3339)
	}
	has := fmt.Sprintf("the archive begins at offset %d", e.First)
	if !e.Since.IsZero() {
		has += ", numbered at " + e.Since.UTC().Format(time.RFC3339)
	} else {
		has = fmt.Sprintf("the archive is empty, and the next offset is %d", e.First)
	}
	return fmt.Sprintf("unilog: %s cannot begin %s of partition %d: %s", e.Consumer, asked, e.Partition, has)
}

// PausedError says that a person has paused a consumer.
type PausedError struct {
	Consumer string
	Since    time.Time
	// By is the user of Postgres who did.
	By string
}

func (e *PausedError) Error() string {
	return fmt.Sprintf("unilog: %s is paused since %s, by %s: resume it with `unilog consumers resume %s`",
		e.Consumer, e.Since.UTC().Format(time.RFC3339), e.By, e.Consumer)
}
