package deliverer

import (
	"context"
	"errors"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/reader"
)

var _ reader.Checkpoint = (*delivering)(nil)

// errUnclaimed is why a log that nobody has written to since it was made, or
// lost, is not read: whose it is is not known.
var errUnclaimed = errors.New("no streamer has claimed the log yet: start one")

// Load asks first whose log it is, and then reads its checkpoint: a deliverer keeps
// each checkpoint for one log, by its id.
func (p *delivering) Load(ctx context.Context) (unilog.Cursor, error) {
	head, err := p.reader.Head(ctx)
	if err != nil {
		return unilog.Cursor{}, err
	}
	if head.LogID == "" {
		return unilog.Cursor{}, unclaimed()
	}
	p.key.LogID = head.LogID
	at, err := p.cfg.Checkpoints.Load(ctx, p.key)
	if err == nil && p.saved.IsZero() {
		p.saved = time.Now()
	}
	return at, err
}

// CheckLog refuses the entries of a log that nobody has claimed. What is delivered
// cannot be taken back, so nothing is delivered that somebody else may have put in
// the place of the log.
func (p *delivering) CheckLog(logID string) error {
	switch logID {
	case p.key.LogID:
		return nil
	case "":
		return unclaimed()
	}
	return &ForeignCheckpointError{Key: CheckpointKey{p.key.Name, logID, p.key.Partition}, Theirs: p.key.LogID}
}

// CheckSource returns the streamer's error: the checkpoint is the log's, and the
// archive another's.
func (p *delivering) CheckSource(logID string) error {
	if logID == p.key.LogID {
		return nil
	}
	return &unilog.ForeignLogError{Partition: p.key.Partition, LogID: logID, Theirs: p.key.LogID}
}

func unclaimed() error { return &unilog.LogError{Call: "read the log's head", Err: errUnclaimed} }
